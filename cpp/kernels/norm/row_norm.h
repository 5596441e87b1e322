#pragma once
// LayerNorm of one row, for one ISA: included after its vector header; internal linkage.
//
// The deviations are taken from a first mean m, whose rounding error grows with |mean|, and are
// then corrected by their own mean d: mean = m + d, var = mean of (x - m)^2 - d^2. x - m is exact
// where |mean| >> std, so the result is right to fp32 rounding there too, without doubles.
#include "kernels/simd/row_sums.h"

namespace planck {
namespace {

struct Moments {
  float mean;        // the first mean
  float correction;  // of the mean
  float scale;       // 1 / sqrt(var + eps)
};

PLANCK_INLINE Moments moments(const float* x, int64_t n, float sum, float eps) {
  const float mean = sum / static_cast<float>(n);
  const F16 center = set1(mean), zero = zero16();
  F16 first[4] = {zero, zero, zero, zero}, second[4] = {zero, zero, zero, zero};
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int k) __attribute__((always_inline)) {
        const F16 d = keep_lanes(load_lanes(x + c, lanes) - center, lanes, zero);
        first[k] = first[k] + d;
        second[k] = fma(d, d, second[k]);
      });
  const float correction = sum_of(first) / static_cast<float>(n);
  const F16 square = set1(sum_of(second) / static_cast<float>(n));
  const F16 var = max2(zero, square - set1(correction) * set1(correction));  // keeps NaN
  const F16 scale = set1(1.0f) / sqrt(var + set1(eps));
  float lanes[16];
  store(lanes, scale);
  return {mean, correction, lanes[0]};
}

template <bool kGain, bool kOffset>
PLANCK_INLINE void write_normalized(const float* x, float* out, int64_t n, const Moments& m,
                                    const float* gain, const float* offset) {
  const F16 mean = set1(m.mean), correction = set1(m.correction), scale = set1(m.scale);
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int) __attribute__((always_inline)) {
        F16 y = ((load_lanes(x + c, lanes) - mean) - correction) * scale;
        if (kGain && kOffset) {
          y = fma(y, load_lanes(gain + c, lanes), load_lanes(offset + c, lanes));
        } else if (kGain) {
          y = y * load_lanes(gain + c, lanes);
        } else if (kOffset) {
          y = y + load_lanes(offset + c, lanes);
        }
        store_lanes(out + c, y, lanes);
      });
}

// out = normalised x; sum is the sum of x in the order of simd/row_sums.h. out may be x.
void normalize_row(const float* x, float* out, int64_t n, float sum, const float* gain,
                   const float* offset, float eps) {
  const Moments m = moments(x, n, sum, eps);
  if (gain && offset) {
    write_normalized<true, true>(x, out, n, m, gain, offset);
  } else if (gain) {
    write_normalized<true, false>(x, out, n, m, gain, offset);
  } else if (offset) {
    write_normalized<false, true>(x, out, n, m, gain, offset);
  } else {
    write_normalized<false, false>(x, out, n, m, gain, offset);
  }
}

// s = (x + y) + z, of which z may be left out; returns the sum of s. s may be any of them.
template <bool kThree>
float add_rows(const float* x, const float* y, const float* z, float* s, int64_t n) {
  F16 sums[4] = {zero16(), zero16(), zero16(), zero16()};
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int k) __attribute__((always_inline)) {
        F16 v = load_lanes(x + c, lanes) + load_lanes(y + c, lanes);
        if (kThree) v = v + load_lanes(z + c, lanes);
        store_lanes(s + c, v, lanes);
        sums[k] = sums[k] + v;
      });
  return sum_of(sums);
}

float sum_row(const float* x, int64_t n) {
  F16 sums[4] = {zero16(), zero16(), zero16(), zero16()};
  for_vectors(
      n, [&](int64_t c, int64_t lanes, int k)
             __attribute__((always_inline)) { sums[k] = sums[k] + load_lanes(x + c, lanes); });
  return sum_of(sums);
}

}  // namespace
}  // namespace planck
