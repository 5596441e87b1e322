#pragma once
#include <cstdint>

#include "kernels/eltwise/eltwise.h"
#include "kernels/job.h"
#include "kernels/simd/row_blocks.h"

namespace planck {

// Elements of a tile, 10 rows of 768, and of the smallest where a step has several.
inline constexpr int64_t kNormTile = 8192, kLeastNormTile = 3072;

// Row by row: s = (x + bias) + residual; out = (s - mean s) / sqrt(var s + eps) * gain + offset.
// var is the mean square deviation. Null pointers leave their term out. Strides count floats.
// out and sum may be x or residual in place (same pointer and stride), and each other only if
// sum is null.
struct NormArgs {
  const float* x;
  const float* residual;  // [rows, n], may be null
  const float* bias;      // [n], may be null
  const float* gain;      // [n], may be null
  const float* offset;    // [n], may be null
  float* out;
  float* sum;  // second output s, may be null
  int64_t rows, n;
  int64_t x_stride, residual_stride, out_stride, sum_stride;
  float eps;
  // Where there is a strip: bytes = program(out), as u8 or s8. A block of rows is still near then.
  EltStripFn strip = nullptr;
  EltProgram program = {};
  void* bytes = nullptr;
  int64_t bytes_stride = 0;
  EltType bytes_type = EltType::u8;
  // Above 0: the elements of a row lie x_step apart, and `inner` rows side by side (column_norm.h):
  // x[row / inner * x_stride + i * x_step + row % inner]; out in the same way. Without residual,
  // bias, sum and strip then.
  int64_t inner = 0, x_step = 1, out_step = 1;
};

// Columns of one tile: two lines of cache.
inline constexpr int64_t kNormColumns = 32;
static inline int64_t column_blocks(const NormArgs& args) {
  return (args.inner + kNormColumns - 1) / kNormColumns;
}

static inline int64_t rows_of_tile(const NormArgs& args) {
  return rows_of_equal_tile(args.rows, args.n, kNormTile, kLeastNormTile);
}

#define PLANCK_NORM(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/norm/kernels.inc"
#undef PLANCK_NORM

}  // namespace planck
