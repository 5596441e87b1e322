#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <functional>

#include "bindings.h"
#include "builder/build.h"
#include "passes/pass.h"
#include "py_plan.h"

namespace planck {

namespace {

using Progress = std::function<bool(std::string, double)>;

BuildOptions options_from(const py::dict& given, const Progress& progress) {
  BuildOptions o;
  for (const auto& [key, value] : given) {
    const std::string name = py::str(key);
    if (name == "precision") {
      o.precision = value.cast<std::string>();
    } else if (name == "device") {
      o.device = value.cast<std::string>();
    } else if (name == "fallback") {
      o.fallback = value.cast<std::string>();
    } else if (name == "disabled_passes") {
      o.disabled_passes = value.cast<std::vector<std::string>>();
    } else if (name == "stop_after_patch") {
      o.stop_after_patch = value.cast<int64_t>();
    } else if (name == "tight_limits") {
      if (value.cast<bool>()) o.import.limits = ImportLimits::tight();
    } else if (name == "external_data_dir") {
      o.import.external_data_dir = value.cast<std::string>();
    } else {
      throw UsageError("build has no option '", name, "'");
    }
  }
  if (progress) {
    o.progress = [progress](std::string_view stage, double done) {
      const py::gil_scoped_acquire gil;
      return progress(std::string(stage), done);
    };
  }
  return o;
}

}  // namespace

void bind_build(py::module_& m) {
  m.def(
      "build_file",
      [](const std::string& path, const py::dict& options, int threads, const Progress& progress) {
        const BuildOptions o = options_from(options, progress);
        const py::gil_scoped_release release;
        return make_py_plan(build_file(path, o), threads);
      },
      py::arg("path"), py::arg("options"), py::arg("threads"), py::arg("progress") = nullptr);
  m.def(
      "build_bytes",
      [](const py::bytes& model, const py::dict& options, int threads, const Progress& progress) {
        const BuildOptions o = options_from(options, progress);
        const std::string_view view = model;
        const py::gil_scoped_release release;
        return make_py_plan(
            build_bytes({reinterpret_cast<const std::byte*>(view.data()), view.size()}, o),
            threads);
      },
      py::arg("model"), py::arg("options"), py::arg("threads"), py::arg("progress") = nullptr);
  m.def(
      "graph_text",
      [](const std::string& path, const py::dict& options) {
        const BuildOptions o = options_from(options, nullptr);
        const py::gil_scoped_release release;
        return graph_text(path, o);
      },
      py::arg("path"), py::arg("options"));
  m.def("pass_names", pass_names);
}

}  // namespace planck
