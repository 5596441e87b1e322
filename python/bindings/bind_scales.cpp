// Scale files: kinds, readers, TensorRT's cache. Python's planck.Scales is made of what comes back.
#include <pybind11/stl.h>

#include <cmath>

#include "bindings.h"
#include "quant/scale_files.h"
#include "quant/trt_cache.h"

namespace planck {
namespace {

py::dict dict_of(const TensorScale& tensor) {
  py::dict out;
  out["name"] = tensor.name;
  out["scale"] = tensor.params.scale;
  out["zero_point"] = tensor.params.zero_point;
  out["dtype"] = std::string(dtype_name(tensor.params.dtype));
  out["axis"] = tensor.params.axis < 0 ? py::object(py::none()) : py::int_(tensor.params.axis);
  const bool known = !std::isnan(tensor.threshold);
  out["threshold"] = known ? py::object(py::float_(tensor.threshold)) : py::none();
  out["note"] = tensor.note;
  return out;
}

py::dict dict_of(const Scales& scales) {
  py::list tensors;
  for (const TensorScale& tensor : scales.tensors) tensors.append(dict_of(tensor));
  py::dict out;
  out["kind"] = scales.kind;
  out["method"] = scales.method;
  out["model_hash"] = scales.model_hash;
  out["notes"] = scales.notes;
  out["tensors"] = tensors;
  return out;
}

}  // namespace

void bind_scales(py::module_& m) {
  m.def("scale_formats", [] {
    std::vector<std::pair<std::string, std::string>> rows;
    for (const ScaleFormat& f : scale_formats()) rows.emplace_back(f.kind, f.content);
    return rows;
  });
  m.def("scale_kind",
        [](const py::bytes& text) { return scale_kind(static_cast<std::string_view>(text)); });
  m.def(
      "read_scales",
      [](const py::bytes& text, const std::string& kind) {
        return dict_of(read_scales(static_cast<std::string_view>(text), kind));
      },
      py::arg("text"), py::arg("kind"));
  m.def(
      "trt_cache_text",
      [](const std::string& header, const std::vector<std::pair<std::string, float>>& entries) {
        TrtCache cache;
        cache.header = header;
        for (const auto& [name, scale] : entries) cache.entries.push_back({name, scale});
        return py::bytes(write_trt_cache(cache));
      },
      py::arg("header"), py::arg("entries"));
}

}  // namespace planck
