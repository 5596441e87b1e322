#pragma once
#include <cstdint>

#include "kernels/job.h"
#include "kernels/simd/row_blocks.h"

namespace planck {

inline constexpr int64_t kSoftmaxTile = 8192;  // elements: 64 rows of 128

// out = exp(x - max x) / sum exp(x - max x) over each row of n, or under `log` its logarithm,
// x - max x - ln(sum exp(x - max x)); a row whose maximum is -inf or +inf gives what the formula
// gives (NaN). Strides count floats; out may be x (same stride).
struct SoftmaxArgs {
  const float* x;
  float* out;
  int64_t rows, n;
  int64_t x_stride, out_stride;
  bool log = false;
};

#define PLANCK_SOFTMAX(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/softmax/kernels.inc"
#undef PLANCK_SOFTMAX

}  // namespace planck
