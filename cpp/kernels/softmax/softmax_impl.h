#pragma once
#include "kernels/simd/row_sums.h"
#include "kernels/softmax/softmax.h"

namespace planck {
namespace {

// The greatest element; NaN is skipped here and comes back through the sum.
PLANCK_INLINE float row_top(const float* x, int64_t n) {
  const F16 low = set1(-kInf);
  F16 top[4] = {low, low, low, low};
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int k) __attribute__((always_inline)) {
        top[k] = max2(keep_lanes(load_lanes(x + c, lanes), lanes, low), top[k]);
      });
  return max_lanes(max2(max2(top[0], top[1]), max2(top[2], top[3])));
}

void run_row(const float* x, float* out, int64_t n) {
  const F16 top = set1(row_top(x, n)), zero = zero16();
  F16 sums[4] = {zero, zero, zero, zero};
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int k) __attribute__((always_inline)) {
        const F16 e = exp_flush(load_lanes(x + c, lanes) - top);
        store_lanes(out + c, e, lanes);
        sums[k] = sums[k] + keep_lanes(e, lanes, zero);
      });
  const F16 scale = set1(1.0f) / set1(sum_of(sums));
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int) __attribute__((always_inline)) {
        store_lanes(out + c, load_lanes(out + c, lanes) * scale, lanes);
      });
}

void run_log_row(const float* x, float* out, int64_t n) {
  const F16 top = set1(row_top(x, n)), zero = zero16();
  F16 sums[4] = {zero, zero, zero, zero};
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int k) __attribute__((always_inline)) {
        const F16 e = exp_flush(load_lanes(x + c, lanes) - top);
        sums[k] = sums[k] + keep_lanes(e, lanes, zero);
      });
  const F16 whole = log(set1(sum_of(sums)));
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int) __attribute__((always_inline)) {
        store_lanes(out + c, load_lanes(x + c, lanes) - top - whole, lanes);
      });
}

void run_tile(const SoftmaxArgs& a, int64_t tile) {
  const int64_t block = rows_of_tile(a.n, kSoftmaxTile);
  const int64_t first = tile * block;
  const int64_t last = first + block < a.rows ? first + block : a.rows;
  for (int64_t row = first; row < last; ++row) {
    const float* x = a.x + row * a.x_stride;
    float* out = a.out + row * a.out_stride;
    if (a.log) {
      run_log_row(x, out, a.n);
    } else {
      run_row(x, out, a.n);
    }
  }
}

}  // namespace
}  // namespace planck
