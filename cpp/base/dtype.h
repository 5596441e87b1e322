#pragma once
#include <cstdint>
#include <optional>
#include <ostream>
#include <string_view>

namespace planck {

enum class DType : uint8_t {
#define PLANCK_DTYPE(name, onnx, bits, numpy, family) name,
#include "base/dtypes.inc"
#undef PLANCK_DTYPE
};

enum class TypeFamily : uint8_t { floating, integer, boolean };

struct DTypeInfo {
  DType dtype;
  std::string_view name;
  int onnx;
  int bits;
  std::string_view numpy;
  TypeFamily family;
};

inline constexpr DTypeInfo kDTypes[] = {
#define PLANCK_DTYPE(name, onnx, bits, numpy, family) \
  {DType::name, #name, onnx, bits, numpy, TypeFamily::family},
#include "base/dtypes.inc"
#undef PLANCK_DTYPE
};

constexpr const DTypeInfo& info(DType t) { return kDTypes[static_cast<int>(t)]; }
constexpr std::string_view dtype_name(DType t) { return info(t).name; }
constexpr int64_t size_of(DType t) { return info(t).bits / 8; }
constexpr bool is_float(DType t) { return info(t).family == TypeFamily::floating; }
constexpr bool is_integer(DType t) { return info(t).family == TypeFamily::integer; }

// How many bits a number of the type has: fewer than its place in memory for s4 and u4.
constexpr int value_bits(DType t) { return t == DType::s4 || t == DType::u4 ? 4 : info(t).bits; }
constexpr bool is_half(DType t) { return t == DType::f16 || t == DType::bf16; }
constexpr bool is_float8(DType t) { return t == DType::f8e4m3 || t == DType::f8e5m2; }

constexpr std::optional<DType> dtype_of_onnx(int number) {
  for (const DTypeInfo& t : kDTypes) {
    if (t.onnx == number) return t.dtype;
  }
  return std::nullopt;
}
constexpr std::optional<DType> dtype_of_name(std::string_view name) {
  for (const DTypeInfo& t : kDTypes) {
    if (t.name == name || t.numpy == name) return t.dtype;
  }
  return std::nullopt;
}

inline std::ostream& operator<<(std::ostream& out, DType t) { return out << dtype_name(t); }

}  // namespace planck
