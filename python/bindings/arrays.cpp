#include "arrays.h"

#include <cstring>
#include <iterator>
#include <optional>

namespace planck {

namespace {

// NumPy's own types have neither eight-bit floats nor numbers of four bits.
bool is_extension(DType t) {
  return t == DType::bf16 || is_float8(t) || value_bits(t) < info(t).bits;
}

// By kind and size, which are fields: NumPy makes a dtype's name in Python code. Its kinds are the
// first letters of its names.
std::optional<DType> dtype_of_fields(const py::dtype& dtype) {
  for (const DTypeInfo& t : kDTypes) {
    if (is_extension(t.dtype)) continue;
    if (t.numpy[0] == dtype.kind() && t.bits == 8 * dtype.itemsize()) return t.dtype;
  }
  return std::nullopt;
}

// Numbers in the machine's byte order, one behind the other: what asarray would give back.
bool is_plain(const py::object& given) {
  if (!py::isinstance<py::array>(given)) return false;
  const auto array = py::reinterpret_borrow<py::array>(given);
  constexpr int kPlain = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
  const char order = array.dtype().byteorder();
  return (array.flags() & kPlain) == kPlain && (order == '=' || order == '|') &&
         array.dtype().kind() != 'O';
}

// What NumPy makes of a list, a buffer, or an object that others share by DLPack.
py::object read_array(const py::object& given, const std::string& name) {
  if (given.is_none()) throw FeedError("input '", name, "' is None; expected an array");
  const bool shared = py::hasattr(given, "__dlpack__") && !py::hasattr(given, "__array__");
  try {
    return py::module_::import("numpy").attr(shared ? "from_dlpack" : "asarray")(given);
  } catch (const py::error_already_set& error) {
    for (PyObject* kind :
         {PyExc_ValueError, PyExc_TypeError, PyExc_BufferError, PyExc_RuntimeError}) {
      if (!error.matches(kind)) continue;
      throw FeedError("input '", name,
                      "' cannot be read as an array: ", py::str(error.value()).cast<std::string>());
    }
    throw;
  }
}

// A copy where the array is not C-contiguous; that of a broadcast one may need any memory.
py::object contiguous(const py::object& array, const std::string& name) {
  try {
    return py::module_::import("numpy").attr("ascontiguousarray")(array);
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_MemoryError)) throw;
    throw OutOfMemoryError("input '", name, "': ", py::str(error.value()).cast<std::string>());
  }
}

}  // namespace

DType dtype_of_array(const py::array& array, const std::string& name) {
  if (const auto dtype = dtype_of_fields(array.dtype())) return *dtype;
  const std::string text = py::str(array.dtype().attr("name"));
  const auto dtype = dtype_of_name(text);
  if (!dtype)
    throw with(FeedError("input '", name, "': dtype ", text, " is not supported"), {.got = text});
  return *dtype;
}

py::dtype numpy_dtype(DType dtype) {
  // Kept for ever: NumPy reads names in Python code. The GIL guards it.
  static PyObject* known[std::size(kDTypes)] = {};
  PyObject*& at = known[static_cast<size_t>(dtype)];
  if (at == nullptr) {
    py::object made = py::str(std::string(info(dtype).numpy));
    if (is_extension(dtype)) made = py::module_::import("ml_dtypes").attr(made);
    at = py::dtype::from_args(made).release().ptr();
  }
  return py::reinterpret_borrow<py::dtype>(at);
}

py::array dense_array(const py::object& given, const std::string& name) {
  if (is_plain(given)) return py::reinterpret_borrow<py::array>(given);
  py::object array = read_array(given, name);
  const py::object dtype = array.attr("dtype");
  if (!dtype.attr("isnative").cast<bool>())
    array = array.attr("astype")(dtype.attr("newbyteorder")("="));
  if (py::str(dtype.attr("kind")).cast<std::string>() == "O") {
    throw with(FeedError("input '", name, "': an array of Python objects is not a tensor"),
               {.got = "object"});
  }
  py::object dense = contiguous(array, name);
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
