#pragma once
// Tensors on the host: shape, type and immutable shared bytes, plus the wide form in which the
// reference computes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <vector>

#include "base/dim.h"
#include "base/dtype.h"
#include "base/error.h"

namespace planck {

using Shape = std::vector<int64_t>;
std::string shape_text(std::span<const int64_t> shape);  // "[2,3]"

// A type and a symbolic shape.
struct TensorType {
  DType dtype = DType::f32;
  std::vector<Dim> dims;
  int64_t rank() const { return static_cast<int64_t>(dims.size()); }
  bool operator==(const TensorType&) const = default;
};
std::ostream& operator<<(std::ostream& out, const TensorType& t);  // f32[N,128,768]

// Memory that somebody keeps alive: a heap block, a string moved out of a parser, a mapped file.
using Owner = std::shared_ptr<const void>;

// Row-major, dense, immutable and cheap to copy.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape, const std::byte* data, Owner owner);

  // A zero-filled tensor and its writable bytes, valid until the tensor is shared.
  static Tensor make(DType dtype, Shape shape, std::byte** bytes);
  template <class T>
  static Tensor of(DType dtype, Shape shape, std::span<const T> values);
  static Tensor scalar(float value);
  static Tensor ints(std::span<const int64_t> values);  // s64, rank 1

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t count() const { return count_; }
  int64_t bytes() const { return count_ * size_of(dtype_); }
  const std::byte* data() const { return data_; }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }
  TensorType type() const;
  Tensor reshaped(Shape shape) const;          // the same bytes; the count must agree
  bool same_bytes(const Tensor& other) const;  // type, shape and contents

 private:
  DType dtype_ = DType::f32;
  Shape shape_;
  int64_t count_ = 0;
  const std::byte* data_ = nullptr;
  Owner owner_;
};

// The reference's form: floats of any width as double, integers and bools as int64. `dtype` is
// what the graph declares; integers are wrapped to its width after each op, floats are rounded to
// it only where a storage type is being emulated.
struct Wide {
  DType dtype = DType::f32;
  Shape shape;
  std::vector<double> real;      // is_float(dtype)
  std::vector<int64_t> integer;  // otherwise

  Wide() = default;
  Wide(DType t, Shape s);  // zeros
  int64_t count() const;
  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  bool floating() const { return is_float(dtype); }
  double at(int64_t i) const {
    return floating() ? real[static_cast<size_t>(i)]
                      : static_cast<double>(integer[static_cast<size_t>(i)]);
  }
};

Wide widen(const Tensor& tensor);
// Rounds to nearest even, saturates floats to infinity, wraps integers.
Tensor narrow(const Wide& wide, DType dtype);
inline Tensor narrow(const Wide& wide) { return narrow(wide, wide.dtype); }
// Integers of `wide` as its dtype would hold them (two's complement), bools as 0 or 1.
void wrap(Wide& wide);

float half_to_float(uint16_t bits);
uint16_t float_to_half(double value);
float bfloat_to_float(uint16_t bits);
uint16_t float_to_bfloat(double value);
// Eight bits: f8e4m3 has no infinity, so what exceeds its largest number becomes NaN.
float float8_to_float(uint8_t bits, DType dtype);
uint8_t float_to_float8(double value, DType dtype);
constexpr double largest_float8(DType dtype) { return dtype == DType::f8e4m3 ? 448 : 57344; }

template <class T>
Tensor Tensor::of(DType dtype, Shape shape, std::span<const T> values) {
  std::byte* bytes = nullptr;
  Tensor out = make(dtype, std::move(shape), &bytes);
  if (static_cast<int64_t>(values.size_bytes()) != out.bytes()) {
    throw InternalError("values do not fill ", out.type());
  }
  std::copy(values.begin(), values.end(), reinterpret_cast<T*>(bytes));
  return out;
}

}  // namespace planck
