#include "importer/formats.h"

#include <cstring>

namespace planck::importer {
namespace {

constexpr std::string_view kExport = "export the model as ONNX, such as with torch.onnx.export";

struct Magic {
  size_t at;
  std::string_view bytes;
  Format format;
};

using std::literals::string_view_literals::operator""sv;

constexpr Magic kMagics[] = {
    {0, "\x89PLAN"sv, {"a plan of Planck", "planck.load reads plans"}},
    {0, "\x89PLKCAL"sv, {"a calibration of Planck", "scales= and --calib take it, beside a model"}},
    {0, "ftrt"sv, {"an engine of TensorRT", "give the ONNX model that it was built from"}},
    {0,
     "version https://git-lfs"sv,
     {"a pointer of Git LFS", "git lfs pull fetches the file that it stands for"}},
    {0, "PK\x03\x04"sv, {"a zip archive, as PyTorch and NumPy write them", kExport}},
    {0, "\x80\x02"sv, {"a pickle", kExport}},
    {0, "\x80\x03"sv, {"a pickle", kExport}},
    {0, "\x80\x04"sv, {"a pickle", kExport}},
    {0, "\x80\x05"sv, {"a pickle", kExport}},
    {0, "\x89HDF\r\n\x1a\n"sv, {"HDF5, as Keras writes it", kExport}},
    {4, "TFL3"sv, {"a model of TensorFlow Lite", "tf2onnx makes an ONNX model of it"}},
    {4, "ORTM"sv, {"a model in ONNX Runtime's own format", "give the .onnx that it was made of"}},
    {8, "{\""sv, {"a safetensors file", "weights alone are no model: export it as ONNX"}},
    {0, "GGUF"sv, {"a GGUF file", kExport}},
    {0, "\x1f\x8b"sv, {"gzip", "unpack it first"}},
    {0, "\x93NUMPY"sv, {"an array of NumPy", "it is data; a model is an .onnx file"}},
    {0, "TRT-"sv, {"a calibration cache", "scales= and --calib take it, beside a model"}},
    {0, "<"sv, {"markup, such as a page of a failed download", "fetch the file again"}},
    {0, "{"sv, {"JSON", "a model is an .onnx file"}},
};

}  // namespace

const Format* other_format(std::span<const std::byte> bytes) {
  for (const Magic& magic : kMagics) {
    if (bytes.size() < magic.at + magic.bytes.size()) continue;
    if (std::memcmp(bytes.data() + magic.at, magic.bytes.data(), magic.bytes.size()) == 0) {
      return &magic.format;
    }
  }
  return nullptr;
}

}  // namespace planck::importer
