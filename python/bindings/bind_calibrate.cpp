// Statistics and solvers. Work runs without the GIL; arrays are read where they lie.
#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>

#include "arrays.h"
#include "base/device.h"
#include "base/nearest.h"
#include "bindings.h"
#include "quant/calibration.h"

namespace planck {
namespace {

constexpr int64_t kWorthATeam = int64_t{1} << 20;  // elements: less is done before threads start

struct PyCalibration {
  Calibration data;
  std::mutex busy;  // one call at a time, from any thread
};
using Held = std::shared_ptr<PyCalibration>;

int team_size(int threads) { return threads > 0 ? threads : this_device().cores; }

auto locked(PyCalibration& self, auto&& body) {
  const py::gil_scoped_release release;
  const std::lock_guard lock(self.busy);
  return body();
}

// A row of a table of options: sets the one of that name.
template <class T>
void set(const py::dict& given, const char* name, T& value) {
  if (!given.contains(name)) return;
  try {
    value = given[name].cast<T>();
  } catch (const py::cast_error&) {
    const std::string type = py::str(py::type::of(given[name]).attr("__name__"));
    throw with(UsageError("the option ", name, " has the wrong type, ", type), {.got = type});
  }
}

SolveOptions options_from(const py::dict& given, SolveOptions options) {
  constexpr std::string_view kKnown[] = {"method", "percentile", "zero_policy", "quantile",
                                         "cutoff", "trt_compat", "activation",  "shared_ranges"};
  for (const auto& [key, _] : given) {
    const std::string name = py::str(key);
    if (std::ranges::find(kKnown, name) == std::end(kKnown)) {
      throw with(UsageError("solve has no option '", name, "'; it has ", joined(kKnown)),
                 {.expected = joined(kKnown), .got = name});
    }
  }
  set(given, "method", options.method);
  set(given, "percentile", options.percentile);
  set(given, "zero_policy", options.zero_policy);
  set(given, "quantile", options.quantile);
  set(given, "cutoff", options.cutoff);
  set(given, "trt_compat", options.trt_compat);
  set(given, "activation", options.activation);
  set(given, "shared_ranges", options.shared_ranges);
  check_options(options);
  return options;
}

Held make(const py::dict& given, const std::vector<py::dict>& tensors) {
  auto self = std::make_shared<PyCalibration>();
  CalibrationFacts& facts = self->data.facts;
  py::dict solve;
  for (const char* name : {"method", "percentile", "zero_policy"}) solve[name] = given[name];
  facts.solve = options_from(solve, {});
  set(given, "model_hash", facts.model_hash);
  set(given, "nonfinite", facts.nonfinite);
  set(given, "exact", facts.exact);
  set(given, "skipped", facts.skipped);
  for (const py::dict& row : tensors) {
    TensorStatistics& t = self->data.tensors.emplace_back();
    set(row, "name", t.name);
    set(row, "group", t.group);
    set(row, "channels", t.channels);
    set(row, "axis", t.axis);
  }
  return self;
}

// The arrays are kept by `keep` for as long as the observations are read.
std::vector<Observation> observations(const std::vector<std::pair<size_t, py::object>>& batch,
                                      std::vector<py::array>& keep) {
  std::vector<Observation> out;
  for (const auto& [index, given] : batch) {
    const py::array array = keep.emplace_back(dense_array(given, cat("tensor ", index)));
    const DType dtype = dtype_of_array(array, cat("tensor ", index));
    const auto* data = static_cast<const std::byte*>(array.data());
    out.push_back({index, Tensor(dtype, shape_of(array), data, nullptr)});
  }
  return out;
}

int threads_for(const std::vector<Observation>& batch, int threads) {
  int64_t elements = 0;
  for (const Observation& o : batch) elements += o.data.count();
  return elements < kWorthATeam ? 1 : team_size(threads);
}

void observe(PyCalibration& self, const std::vector<std::pair<size_t, py::object>>& arrays,
             int64_t samples, int64_t bytes, int threads) {
  std::vector<py::array> keep;
  const std::vector<Observation> batch = observations(arrays, keep);
  locked(self, [&] {
    Team team(threads_for(batch, threads));
    self.data.observe(batch, samples, bytes, team);
  });
}

void observe_again(PyCalibration& self, const std::vector<std::pair<size_t, py::object>>& arrays,
                   int threads) {
  std::vector<py::array> keep;
  const std::vector<Observation> batch = observations(arrays, keep);
  locked(self, [&] {
    Team team(threads_for(batch, threads));
    self.data.observe_again(batch, team);
  });
}

py::bytes to_bytes(PyCalibration& self) {
  std::string bytes;
  locked(self, [&] {
    write_calibration(self.data, [&](std::span<const std::byte> piece) {
      bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    });
  });
  return {bytes};
}

py::dict grid_row(const TensorScale& scale) {
  py::dict row;
  row["name"] = scale.name;
  row["dtype"] = std::string(dtype_name(scale.params.dtype));
  row["scale"] = scale.params.scale;
  row["zero_point"] = scale.params.zero_point;
  row["axis"] = scale.params.axis < 0 ? py::object(py::none()) : py::cast(scale.params.axis);
  row["threshold"] = std::isnan(scale.threshold) ? py::object(py::none())
                                                 : py::object(py::float_(scale.threshold));
  row["note"] = scale.note;
  return row;
}

py::tuple solve(PyCalibration& self, const py::dict& given, int threads) {
  const SolveOptions options = options_from(given, self.data.facts.solve);
  const Scales scales = locked(self, [&] {
    Team team(team_size(threads));
    return self.data.solve(options, team);
  });
  py::list rows;
  for (const TensorScale& scale : scales.tensors) rows.append(grid_row(scale));
  return py::make_tuple(rows, scales.method, py::cast(scales.notes));
}

py::list report(PyCalibration& self, const py::dict& given, int threads) {
  const SolveOptions options = options_from(given, self.data.facts.solve);
  const std::vector<TensorReport> rows = locked(self, [&] {
    Team team(team_size(threads));
    return self.data.report(options, team);
  });
  py::list out;
  for (const TensorReport& r : rows) {
    py::dict row = grid_row(r.scale);
    row["count"] = r.count;
    row["zeros"] = r.zeros;
    row["nonfinite"] = r.nonfinite;
    row["min"] = r.min;
    row["max"] = r.max;
    row["clipped"] = r.clipped;
    row["sqnr_db"] = r.sqnr_db;
    row["lost_db"] = r.lost_db;
    row["group"] = r.group;
    out.append(row);
  }
  return out;
}

py::dict facts_py(const PyCalibration& self) {
  const CalibrationFacts& f = self.data.facts;
  py::dict out;
  out["engine"] = f.engine;
  out["model_hash"] = f.model_hash;
  out["method"] = f.solve.method;
  out["percentile"] = f.solve.percentile;
  out["zero_policy"] = f.solve.zero_policy;
  out["nonfinite"] = f.nonfinite;
  out["exact"] = f.exact;
  out["samples"] = f.samples;
  out["batches"] = f.batches;
  out["bytes"] = f.bytes;
  out["skipped"] = f.skipped;
  py::list names;
  for (const TensorStatistics& t : self.data.tensors) names.append(t.name);
  out["tensors"] = names;
  return out;
}

py::array array_from(const auto& values) {
  using T = typename std::decay_t<decltype(values)>::value_type;
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::dict histogram_py(const PyCalibration& self, const std::string& name) {
  const Histogram& h = self.data.tensor(name).collector.histogram();
  py::dict out;
  out["count"] = h.count;
  out["zeros"] = h.zeros;
  out["nonfinite"] = h.nonfinite;
  out["min"] = h.min;
  out["max"] = h.max;
  out["exponent"] = h.exponent;
  out["neg"] = array_from(h.neg.empty() ? Bins(kBins, 0) : h.neg);
  out["pos"] = array_from(h.pos.empty() ? Bins(kBins, 0) : h.pos);
  return out;
}

py::object channels_py(const PyCalibration& self, const std::string& name) {
  const ChannelRange& channels = self.data.tensor(name).collector.channels();
  if (channels.absmax.empty()) return py::none();
  return array_from(channels.absmax);
}

// Thresholds and the divergence at each.
py::tuple divergences_py(const PyCalibration& self, const std::string& name,
                         const std::string& zero_policy) {
  SolveOptions options;
  options.zero_policy = zero_policy;
  check_options(options);
  const Magnitudes m = merged_once(magnitudes(self.data.tensor(name).collector.histogram()));
  const std::vector<double> kl = divergences(after_zero_policy(m.counts, zero_policy));
  std::vector<double> thresholds;
  for (size_t i = 0; i < kl.size(); ++i) {
    thresholds.push_back((static_cast<double>(i + kEntropyLevels) + 0.5) * m.width);
  }
  return py::make_tuple(array_from(thresholds), array_from(kl));
}

// The expected squared error of the grid of each threshold.
py::array errors_py(const PyCalibration& self, const std::string& name, const std::string& dtype,
                    const std::vector<double>& thresholds) {
  SolveOptions options;
  options.activation = dtype;
  check_options(options);
  const Histogram& h = self.data.tensor(name).collector.histogram();
  const GridError error(h);
  std::vector<double> errors;
  for (const double t : thresholds) {
    errors.push_back(error(grid_of(dtype == "u8" ? DType::u8 : DType::s8, t, h)));
  }
  return array_from(errors);
}

py::list calibrators_py() {
  py::list out;
  for (const Calibrator& c : calibrators()) {
    out.append(py::make_tuple(std::string(c.name), std::string(c.what)));
  }
  return out;
}

}  // namespace

void bind_calibrate(py::module_& m) {
  py::class_<PyCalibration, Held>(m, "Calibration")
      .def(py::init(&make), py::arg("facts"), py::arg("tensors"))
      .def("observe", observe, py::arg("batch"), py::arg("samples"), py::arg("bytes"),
           py::arg("threads"))
      .def("start_second_pass",
           [](PyCalibration& self) { locked(self, [&] { self.data.start_second_pass(); }); })
      .def("observe_again", observe_again, py::arg("batch"), py::arg("threads"))
      .def("merge",
           [](PyCalibration& self, const PyCalibration& other) { self.data.merge(other.data); })
      .def("copy",
           [](const PyCalibration& self) {
             auto copy = std::make_shared<PyCalibration>();
             copy->data = self.data;
             return copy;
           })
      .def("to_bytes", to_bytes)
      .def("save",
           [](PyCalibration& self, const std::string& path) {
             locked(self, [&] { save_calibration(self.data, path); });
           })
      .def("solve", solve, py::arg("options"), py::arg("threads") = 0)
      .def("report", report, py::arg("options"), py::arg("threads") = 0)
      .def("histogram", histogram_py, py::arg("name"))
      .def("channel_absmax", channels_py, py::arg("name"))
      .def("divergences", divergences_py, py::arg("name"), py::arg("zero_policy"))
      .def("errors", errors_py, py::arg("name"), py::arg("dtype"), py::arg("thresholds"))
      .def_property_readonly("facts", facts_py);
  const auto held = [](auto&& read) {
    auto self = std::make_shared<PyCalibration>();
    const py::gil_scoped_release release;
    self->data = read();
    return self;
  };
  m.def("read_calibration", [held](const py::bytes& bytes) {
    const auto span = std::as_bytes(std::span(std::string_view(bytes)));
    return held([&] { return read_calibration(span); });
  });
  m.def("load_calibration",
        [held](const std::string& path) { return held([&] { return load_calibration(path); }); });
  m.def("calibrators", calibrators_py);
  m.def("nearest_names", [](const std::string& name, const std::vector<std::string>& known) {
    return nearest_names(name, known);
  });
}

}  // namespace planck
