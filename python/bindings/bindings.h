#pragma once
#include <pybind11/pybind11.h>

namespace planck {

namespace py = pybind11;

void bind_errors(py::module_& m);
void bind_device(py::module_& m);
void bind_ops(py::module_& m);
void bind_log();
void bind_limits(py::module_& m);
void bind_build(py::module_& m);
void bind_plan(py::module_& m);
void bind_inspect(py::module_& m);

}  // namespace planck
