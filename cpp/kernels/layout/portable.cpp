#include <cstdint>

namespace planck {
namespace {

template <class T>
inline void transpose_block(const T* x, int64_t x_step, T* out, int64_t out_step) {
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 8; ++c) out[r * out_step + c] = x[r + c * x_step];
  }
}

inline uint32_t bits_of_float(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float float_of_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
}

// Exponent and mantissa move to their places in fp32; a product with a power of two mends the
// exponent. A subnormal half, which is no subnormal float, is as many units of 2^-24.
inline float float_of_half(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
  const uint32_t moved = magnitude << 13;
  if (magnitude >= 0x7c00) {  // infinity, and NaN made quiet
    return float_of_bits(sign | 0x7f800000u | moved | (magnitude > 0x7c00 ? 0x400000u : 0));
  }
  const float units = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
  const float value = magnitude < 0x400 ? units : float_of_bits(moved) * 0x1p112f;
  return float_of_bits(sign | bits_of_float(value));
}

inline uint16_t half_of_float(float x) {
  const uint32_t bits = bits_of_float(x), magnitude = bits & 0x7fffffffu;
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | (magnitude >> 13 & 0x1ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: fp32 rounds to units of 2^-24
    half = bits_of_float(float_of_bits(magnitude) + 0.5f) - bits_of_float(0.5f);
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

template <class T>
inline void interleave_three(const T* x, int64_t x_step, int64_t rows, T* out, int64_t out_step) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int c = 0; c < 3; ++c) out[r * out_step + c] = x[r + c * x_step];
  }
}

}  // namespace
}  // namespace planck

// The walk is written in terms of transpose_block, conversions in terms of halves.
#include "kernels/layout/copy_impl.h"

namespace planck {

void copy_any_8x8_portable(const void* args, int64_t tile, const Worker&) {
  run_copy(*static_cast<const CopyArgs*>(args), tile);
}
void convert_any_1_portable(const void* args, int64_t tile, const Worker&) {
  run_convert(*static_cast<const ConvertArgs*>(args), tile);
}

}  // namespace planck
