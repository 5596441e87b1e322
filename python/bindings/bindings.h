#pragma once
#include <pybind11/pybind11.h>

namespace planck {

namespace py = pybind11;

// A struct that lists its fields, as a dictionary.
template <class T>
py::dict dict_of(const T& value) {
  py::dict out;
  const auto visit = [&](const char* name, const auto& field) { out[name] = field; };
  T::fields(value, visit);
  return out;
}

void bind_errors(py::module_& m);
void bind_device(py::module_& m);
void bind_ops(py::module_& m);
void bind_log();
void bind_limits(py::module_& m);
void bind_scales(py::module_& m);
void bind_build(py::module_& m);
void bind_calibrate(py::module_& m);
void bind_plan(py::module_& m);
void bind_inspect(py::module_& m);

}  // namespace planck
