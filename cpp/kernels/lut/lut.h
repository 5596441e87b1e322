#pragma once
// A function of one byte as its 256 results.
#include <cstdint>

#include "kernels/job.h"

namespace planck {

inline constexpr int64_t kLutTile = 32768;  // bytes: far above a ticket's cost

// out[r * out_stride + c] = table[x[r * x_stride + c]]. out may be x where the strides are equal.
struct LutArgs {
  const uint8_t* x;
  const uint8_t* table;  // 256 bytes
  uint8_t* out;
  int64_t rows, columns;
  int64_t x_stride, out_stride;
  bool vbmi;  // whether the machine permutes bytes across a register (AVX512_VBMI)
};

#define PLANCK_LUT(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/lut/kernels.inc"
#undef PLANCK_LUT

}  // namespace planck
