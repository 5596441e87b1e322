#pragma once
// LayerNorm of neighbouring columns, a lane for each: where the elements of a row lie apart and its
// neighbours side by side, as channels that are normalised over places. For one ISA: included after
// its vector header; internal linkage. Moments as in row_norm.h; blocks of rows keep sums short.
#include "kernels/norm/norm.h"
#include "kernels/simd/row_sums.h"

namespace planck {
namespace {

constexpr int64_t kColumnBlock = 64;

template <int64_t kVectors>
struct ColumnMoments {
  F16 mean[kVectors], correction[kVectors], scale[kVectors];
};

#define PLANCK_EACH _Pragma("GCC unroll 4") for (int64_t v = 0; v < kVectors; ++v)

// The vectors of one row; `lanes` of the last one exist.
template <int64_t kVectors>
PLANCK_INLINE void load_row(const float* row, int64_t lanes, F16 (&to)[kVectors]) {
  PLANCK_EACH to[v] = load_lanes(row + 16 * v, v + 1 < kVectors ? 16 : lanes);
}

template <int64_t kVectors>
PLANCK_INLINE void column_means(const NormArgs& a, const float* x, int64_t lanes,
                                F16 (&mean)[kVectors]) {
  PLANCK_EACH mean[v] = zero16();
  for (int64_t first = 0; first < a.n; first += kColumnBlock) {
    const int64_t last = first + kColumnBlock < a.n ? first + kColumnBlock : a.n;
    F16 sum[kVectors], row[kVectors];
    PLANCK_EACH sum[v] = zero16();
    for (int64_t i = first; i < last; ++i) {
      load_row(x + i * a.x_step, lanes, row);
      PLANCK_EACH sum[v] = sum[v] + row[v];
    }
    PLANCK_EACH mean[v] = mean[v] + sum[v];
  }
  PLANCK_EACH mean[v] = mean[v] / set1(static_cast<float>(a.n));
}

template <int64_t kVectors>
PLANCK_INLINE ColumnMoments<kVectors> column_moments(const NormArgs& a, const float* x,
                                                     int64_t lanes) {
  ColumnMoments<kVectors> m;
  column_means(a, x, lanes, m.mean);
  F16 firsts[kVectors], seconds[kVectors];
  PLANCK_EACH firsts[v] = seconds[v] = zero16();
  for (int64_t from = 0; from < a.n; from += kColumnBlock) {
    const int64_t last = from + kColumnBlock < a.n ? from + kColumnBlock : a.n;
    F16 first[kVectors], second[kVectors], row[kVectors];
    PLANCK_EACH first[v] = second[v] = zero16();
    for (int64_t i = from; i < last; ++i) {
      load_row(x + i * a.x_step, lanes, row);
      PLANCK_EACH row[v] = row[v] - m.mean[v];
      PLANCK_EACH first[v] = first[v] + row[v];
      PLANCK_EACH second[v] = fma(row[v], row[v], second[v]);
    }
    PLANCK_EACH firsts[v] = firsts[v] + first[v];
    PLANCK_EACH seconds[v] = seconds[v] + second[v];
  }
  const F16 count = set1(static_cast<float>(a.n));
  PLANCK_EACH {
    m.correction[v] = firsts[v] / count;
    const F16 square = seconds[v] / count - m.correction[v] * m.correction[v];
    m.scale[v] = set1(1.0f) / sqrt(max2(zero16(), square) + set1(a.eps));  // keeps NaN
  }
  return m;
}

// Columns from x on: all vectors but the last are whole.
template <int64_t kVectors>
void normalize_columns(const NormArgs& a, const float* x, float* out, int64_t lanes) {
  const ColumnMoments<kVectors> m = column_moments<kVectors>(a, x, lanes);
  for (int64_t i = 0; i < a.n; ++i) {
    F16 y[kVectors];
    load_row(x + i * a.x_step, lanes, y);
    PLANCK_EACH y[v] = ((y[v] - m.mean[v]) - m.correction[v]) * m.scale[v];
    if (a.gain && a.offset) {
      PLANCK_EACH y[v] = fma(y[v], set1(a.gain[i]), set1(a.offset[i]));
    } else if (a.gain) {
      PLANCK_EACH y[v] = y[v] * set1(a.gain[i]);
    } else if (a.offset) {
      PLANCK_EACH y[v] = y[v] + set1(a.offset[i]);
    }
    PLANCK_EACH store_lanes(out + i * a.out_step + 16 * v, y[v], v + 1 < kVectors ? 16 : lanes);
  }
}
#undef PLANCK_EACH

void run_column_tile(const NormArgs& a, int64_t tile) {
  const int64_t blocks = column_blocks(a);
  const int64_t outer = tile / blocks, first = tile % blocks * kNormColumns;
  const float* x = a.x + outer * a.x_stride + first;
  float* out = a.out + outer * a.out_stride + first;
  const int64_t left = a.inner - first;
  if (left > 16) {
    normalize_columns<2>(a, x, out, left < kNormColumns ? left - 16 : 16);
  } else {
    normalize_columns<1>(a, x, out, left);
  }
}

}  // namespace
}  // namespace planck
