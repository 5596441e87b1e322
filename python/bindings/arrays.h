#pragma once
// NumPy arrays at the door: types by name, dense views, no copies where none is needed.
#include <pybind11/numpy.h>

#include "base/tensor.h"
#include "bindings.h"

namespace planck {

// FeedError for a dtype that Planck does not have.
DType dtype_of_array(const py::array& array, const std::string& name);
py::dtype numpy_dtype(DType dtype);
// The array itself if it is C-contiguous, aligned and native; else one copy.
py::array dense_array(const py::object& given, const std::string& name);
Shape shape_of(const py::array& array);
Tensor tensor_of(const py::array& array, const std::string& name);  // copies
py::array array_of(const Tensor& tensor);                           // copies

}  // namespace planck
