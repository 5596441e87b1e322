#include "arrays.h"

#include <cstring>

namespace planck {

DType dtype_of_array(const py::array& array, const std::string& name) {
  const std::string text = py::str(array.dtype().attr("name"));
  const auto dtype = dtype_of_name(text);
  if (!dtype)
    throw with(FeedError("input '", name, "': dtype ", text, " is not supported"), {.got = text});
  return *dtype;
}

py::dtype numpy_dtype(DType dtype) {
  const std::string name(info(dtype).numpy);
  if (dtype == DType::bf16) {
    return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
  }
  return py::dtype(name);
}

py::array dense_array(const py::object& given, const std::string& name) {
  const py::module_ numpy = py::module_::import("numpy");
  py::object array = numpy.attr("asarray")(given);
  const py::object dtype = array.attr("dtype");
  if (!dtype.attr("isnative").cast<bool>())
    array = array.attr("astype")(dtype.attr("newbyteorder")("="));
  if (py::str(dtype.attr("kind")).cast<std::string>() == "O") {
    throw with(FeedError("input '", name, "': an array of Python objects is not a tensor"),
               {.got = "object"});
  }
  py::object dense = numpy.attr("ascontiguousarray")(array);
  // ascontiguousarray makes a scalar one-dimensional.
  if (array.attr("ndim").cast<int>() == 0) dense = dense.attr("reshape")(py::tuple());
  return dense.cast<py::array>();
}

Shape shape_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

Tensor tensor_of(const py::array& array, const std::string& name) {
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(dtype_of_array(array, name), shape_of(array), &bytes);
  std::memcpy(bytes, array.data(), static_cast<size_t>(out.bytes()));
  return out;
}

py::array array_of(const Tensor& tensor) {
  py::array out(numpy_dtype(tensor.dtype()), tensor.shape());
  std::memcpy(out.mutable_data(), tensor.data(), static_cast<size_t>(tensor.bytes()));
  return out;
}

}  // namespace planck
