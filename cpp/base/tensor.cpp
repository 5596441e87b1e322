#include "base/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "base/guard.h"

namespace planck {

std::string shape_text(std::span<const int64_t> shape) { return cat('[', joined(shape, ","), ']'); }

std::ostream& operator<<(std::ostream& out, const TensorType& t) {
  return out << t.dtype << '[' << joined(t.dims, ",") << ']';
}

Tensor::Tensor(DType dtype, Shape shape, const std::byte* data, Owner owner)
    : dtype_(dtype),
      shape_(std::move(shape)),
      count_(checked_count(shape_)),
      data_(data),
      owner_(std::move(owner)) {
  checked_mul(count_, size_of(dtype_), "tensor bytes");
}

namespace {

constexpr int64_t kHugePage = 2 << 20;

// Weights are read once in a run; huge pages save most of the page walks that this costs.
Owner huge_block(int64_t size) {
  const auto rounded = static_cast<size_t>(round_up(size, kHugePage));
  void* block = std::aligned_alloc(kHugePage, rounded);
  if (block == nullptr) {
    throw with(OutOfMemoryError("no memory for a tensor of ", size, " bytes"), {.need = size});
  }
  madvise(block, rounded, MADV_HUGEPAGE);
  Owner owner(block, [](const void* p) { std::free(const_cast<void*>(p)); });
  in_pieces(static_cast<size_t>(size), [&](size_t first, size_t count) {
    std::memset(static_cast<std::byte*>(block) + first, 0, count);
  });
  return owner;
}

}  // namespace

Tensor Tensor::make(DType dtype, Shape shape, std::byte** bytes) {
  const int64_t size = checked_mul(checked_count(shape), size_of(dtype), "tensor bytes");
  if (size >= 2 * kHugePage) {
    Owner owner = huge_block(size);
    *bytes = static_cast<std::byte*>(const_cast<void*>(owner.get()));
    return {dtype, std::move(shape), *bytes, std::move(owner)};
  }
  // Cache-line alignment: kernels may read constants with aligned vectors.
  auto* block = static_cast<std::byte*>(
      ::operator new(static_cast<size_t>(std::max<int64_t>(size, 1)), std::align_val_t(64)));
  std::memset(block, 0, static_cast<size_t>(size));
  Owner owner(block,
              [](const void* p) { ::operator delete(const_cast<void*>(p), std::align_val_t(64)); });
  *bytes = block;
  return {dtype, std::move(shape), block, std::move(owner)};
}

Tensor Tensor::scalar(float value) { return of<float>(DType::f32, {}, std::span(&value, 1)); }

Tensor Tensor::ints(std::span<const int64_t> values) {
  return of<int64_t>(DType::s64, {static_cast<int64_t>(values.size())}, values);
}

TensorType Tensor::type() const { return {dtype_, {shape_.begin(), shape_.end()}}; }

Tensor Tensor::reshaped(Shape shape) const {
  if (checked_count(shape) != count_) {
    throw InternalError("reshape of ", type(), " to ", shape_text(shape));
  }
  return {dtype_, std::move(shape), data_, owner_};
}

bool Tensor::same_bytes(const Tensor& other) const {
  return dtype_ == other.dtype_ && shape_ == other.shape_ &&
         (data_ == other.data_ ||
          std::memcmp(data_, other.data_, static_cast<size_t>(bytes())) == 0);
}

namespace {

void grow(auto& numbers, size_t n) {
  numbers.reserve(n);
  in_pieces(n, [&](size_t first, size_t count) { numbers.resize(first + count); });
}

}  // namespace

Wide::Wide(DType t, Shape s) : dtype(t), shape(std::move(s)) {
  const auto n = static_cast<size_t>(checked_count(shape));
  is_float(t) ? grow(real, n) : grow(integer, n);
}

int64_t Wide::count() const {
  return static_cast<int64_t>(floating() ? real.size() : integer.size());
}

float bfloat_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const int exponent = (bits >> 10) & 31;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {  // subnormal: mantissa x 2^-24, exact in fp32
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | static_cast<uint32_t>(exponent + 112) << 23 | mantissa << 13);
}

namespace {

// Rounds a double to nearest even with `bits` of mantissa and smallest exponent `lowest`.
double rounded(double value, int bits, int lowest) {
  if (value == 0 || !std::isfinite(value)) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  const int unit = std::max(exponent - 1, lowest) - bits;
  return std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
}

}  // namespace

uint16_t float_to_half(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000u : 0;
  if (std::isnan(value)) return sign | 0x7e00u;
  const double r = std::abs(rounded(value, 10, -14));
  if (r > 65504.0) return sign | 0x7c00u;
  if (r < 6.103515625e-05) return sign | static_cast<uint16_t>(std::ldexp(r, 24));
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(r));
  return sign | static_cast<uint16_t>(((bits >> 23) - 112) << 10 | ((bits >> 13) & 0x3ffu));
}

uint16_t float_to_bfloat(double value) {
  if (std::isnan(value)) return 0x7fc0u;
  const double r = rounded(value, 7, -126);
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(r)) >> 16);
}

namespace {

struct Float8 {
  int mantissa_bits, lowest;  // exponent of the least normal number
  uint8_t infinity, nan;
};
Float8 form_of(DType dtype) {
  return dtype == DType::f8e4m3 ? Float8{3, -6, 0x7f, 0x7f} : Float8{2, -14, 0x7c, 0x7f};
}

}  // namespace

float float8_to_float(uint8_t bits, DType dtype) {
  const Float8 form = form_of(dtype);
  const float sign = (bits & 0x80u) != 0 ? -1 : 1;
  const int magnitude = bits & 0x7f;
  if (magnitude == form.infinity && form.infinity != form.nan) {
    return sign * std::numeric_limits<float>::infinity();
  }
  if (magnitude >= form.infinity)
    return std::copysign(std::numeric_limits<float>::quiet_NaN(), sign);
  const int exponent = magnitude >> form.mantissa_bits;
  const int unit = 1 << form.mantissa_bits;
  const int mantissa = magnitude % unit + (exponent > 0 ? unit : 0);
  const int power = std::max(exponent, 1) - 1 + form.lowest - form.mantissa_bits;
  return sign * std::ldexp(static_cast<float>(mantissa), power);
}

uint8_t float_to_float8(double value, DType dtype) {
  const Float8 form = form_of(dtype);
  const uint8_t sign = std::signbit(value) ? 0x80u : 0;
  if (std::isnan(value)) return sign | form.nan;
  const double r = std::abs(rounded(value, form.mantissa_bits, form.lowest));
  if (r > largest_float8(dtype)) return sign | form.infinity;
  if (r == 0) return sign;
  int exponent = 0;
  std::frexp(r, &exponent);
  const int power = std::max(exponent - 1, form.lowest);
  // The leading one of a normal number raises the exponent field by one.
  const int mantissa = static_cast<int>(std::ldexp(r, form.mantissa_bits - power));
  return sign | static_cast<uint8_t>(((power - form.lowest) << form.mantissa_bits) + mantissa);
}

namespace {

template <class T>
void read_numbers(const Tensor& t, auto& out) {
  const T* from = t.as<T>();
  in_pieces(out.size(), [&](size_t first, size_t count) {
    std::copy(from + first, from + first + count, &out[first]);
  });
}

template <class T>
void write_numbers(const auto& in, std::byte* to) {
  auto* out = reinterpret_cast<T*>(to);
  in_pieces(in.size(), [&](size_t first, size_t count) {
    for (size_t i = first; i < first + count; ++i) out[i] = static_cast<T>(in[i]);
  });
}

void read_real(const Tensor& t, std::vector<double>& out) {
  if (t.dtype() == DType::f32) return read_numbers<float>(t, out);
  if (t.dtype() == DType::f64) return read_numbers<double>(t, out);
  if (is_float8(t.dtype())) {
    for (size_t i = 0; i < out.size(); ++i) {
      check_guard_at(i);
      out[i] = static_cast<double>(float8_to_float(t.as<uint8_t>()[i], t.dtype()));
    }
    return;
  }
  const auto* bits = t.as<uint16_t>();
  const bool half = t.dtype() == DType::f16;
  for (size_t i = 0; i < out.size(); ++i) {
    check_guard_at(i);
    out[i] = half ? half_to_float(bits[i]) : bfloat_to_float(bits[i]);
  }
}

void write_real(const std::vector<double>& in, DType dtype, std::byte* to) {
  if (dtype == DType::f32) return write_numbers<float>(in, to);
  if (dtype == DType::f64) return write_numbers<double>(in, to);
  if (is_float8(dtype)) {
    for (size_t i = 0; i < in.size(); ++i) {
      check_guard_at(i);
      to[i] = std::byte{float_to_float8(in[i], dtype)};
    }
    return;
  }
  auto* bits = reinterpret_cast<uint16_t*>(to);
  for (size_t i = 0; i < in.size(); ++i) {
    check_guard_at(i);
    bits[i] = dtype == DType::f16 ? float_to_half(in[i]) : float_to_bfloat(in[i]);
  }
}

// Calls f with a zero of the C++ type that holds the integer dtype.
void with_integer_type(DType dtype, auto&& f) {
  switch (dtype) {
    case DType::u8:
    case DType::u4:
    case DType::b8:
      return f(uint8_t{});
    case DType::s8:
    case DType::s4:
      return f(int8_t{});
    case DType::u16:
      return f(uint16_t{});
    case DType::s16:
      return f(int16_t{});
    case DType::s32:
      return f(int32_t{});
    case DType::u32:
      return f(uint32_t{});
    case DType::u64:
      return f(uint64_t{});
    default:
      return f(int64_t{});
  }
}

}  // namespace

Wide widen(const Tensor& tensor) {
  Wide out(tensor.dtype(), tensor.shape());
  if (out.floating()) {
    read_real(tensor, out.real);
  } else {
    with_integer_type(tensor.dtype(),
                      [&](auto zero) { read_numbers<decltype(zero)>(tensor, out.integer); });
    // Any non-zero byte is true, and a file may hold anything in the upper bits of four.
    if (value_bits(tensor.dtype()) < 8 || tensor.dtype() == DType::b8) wrap(out);
  }
  return out;
}

Tensor narrow(const Wide& wide, DType dtype) {
  if (is_float(dtype) != wide.floating()) {
    throw InternalError("cannot store ", wide.dtype, " as ", dtype);
  }
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(dtype, wide.shape, &bytes);
  if (wide.floating()) {
    write_real(wide.real, dtype, bytes);
  } else {
    with_integer_type(dtype,
                      [&](auto zero) { write_numbers<decltype(zero)>(wide.integer, bytes); });
  }
  return out;
}

void wrap(Wide& wide) {
  if (wide.floating()) return;
  if (wide.dtype == DType::b8) {
    for (int64_t& v : wide.integer) v = v != 0 ? 1 : 0;
    return;
  }
  if (wide.dtype == DType::u4) {
    for (int64_t& v : wide.integer) v &= 15;
    return;
  }
  if (wide.dtype == DType::s4) {
    for (int64_t& v : wide.integer) v = ((v & 15) ^ 8) - 8;
    return;
  }
  with_integer_type(wide.dtype, [&](auto zero) {
    // Sign extension is the point.  NOLINTNEXTLINE(bugprone-signed-char-misuse)
    for (int64_t& v : wide.integer) v = static_cast<int64_t>(static_cast<decltype(zero)>(v));
  });
}

}  // namespace planck
