#pragma once
// The transforms for every vector width: included after the vector header of an ISA file. A vector
// holds neighbouring channels of one place.
#include "kernels/simd/row_sums.h"
#include "kernels/winograd/winograd.h"

namespace planck {
namespace {

// B^T d.
PLANCK_INLINE void transform_in(const F16* d, int64_t step, F16* v) {
  const F16 d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step],
            d5 = d[5 * step];
  const F16 four = set1(4.0f), five = set1(5.0f), two = set1(2.0f);
  const F16 even = d4 - four * d2, odd = d3 - four * d1;
  const F16 near = d4 - d2, half = two * (d3 - d1);
  v[0] = (four * d0 - five * d2) + d4;
  v[1] = even + odd;
  v[2] = even - odd;
  v[3] = near + half;
  v[4] = near - half;
  v[5] = (four * d1 - five * d3) + d5;
}

// A^T m.
PLANCK_INLINE void transform_out(const F16* m, int64_t step, F16* y) {
  const F16 m0 = m[0], m1 = m[step], m2 = m[2 * step], m3 = m[3 * step], m4 = m[4 * step],
            m5 = m[5 * step];
  const F16 sum1 = m1 + m2, sum2 = m3 + m4, dif1 = m1 - m2, dif2 = m3 - m4;
  y[0] = (m0 + sum1) + sum2;
  y[1] = dif1 + set1(2.0f) * dif2;
  y[2] = sum1 + set1(4.0f) * sum2;
  y[3] = (dif1 + set1(8.0f) * dif2) + m5;
}

PLANCK_INLINE void input_of(const WinogradInput& in, int64_t channel, int64_t lanes) {
  const WinogradPatch& p = in.patch;
  F16 rows[kWinogradIn * kWinogradIn];
  for (int64_t y = 0; y < kWinogradIn; ++y) {
    F16 d[kWinogradIn];
    const float* line = p.x + y * p.y_step + channel;
    const bool inside = y >= p.y_from && y < p.y_to;
#pragma GCC unroll 6
    for (int x = 0; x < kWinogradIn; ++x) {
      d[x] =
          inside && x >= p.x_from && x < p.x_to ? load_lanes(line + x * p.x_step, lanes) : zero16();
    }
    transform_in(d, 1, rows + y * kWinogradIn);
  }
  for (int x = 0; x < kWinogradIn; ++x) {
    F16 v[kWinogradIn];
    transform_in(rows + x, kWinogradIn, v);
#pragma GCC unroll 6
    for (int y = 0; y < kWinogradIn; ++y) {
      store_lanes(in.v + (y * kWinogradIn + x) * in.point_step + channel, v[y], lanes);
    }
  }
}

void input(const WinogradInput& given) {
  const WinogradInput in = given;  // stores of vectors may alias what is given
  int64_t channel = 0;
  for (; channel + 16 <= in.channels; channel += 16) input_of(in, channel, 16);
  if (channel < in.channels) input_of(in, channel, in.channels - channel);
}

PLANCK_INLINE void output_of(const WinogradOutput& o, int64_t channel, int64_t lanes) {
  F16 columns[kWinogradOut * kWinogradIn];
  for (int x = 0; x < kWinogradIn; ++x) {
    F16 m[kWinogradIn], y[kWinogradOut];
#pragma GCC unroll 6
    for (int i = 0; i < kWinogradIn; ++i) {
      m[i] = load_lanes(o.m + (i * kWinogradIn + x) * o.point_step + channel, lanes);
    }
    transform_out(m, 1, y);
#pragma GCC unroll 4
    for (int i = 0; i < kWinogradOut; ++i) columns[i * kWinogradIn + x] = y[i];
  }
  const F16 bias = o.bias != nullptr ? load_lanes(o.bias + channel, lanes) : zero16();
  for (int64_t i = 0; i < o.rows; ++i) {
    F16 y[kWinogradOut];
    transform_out(columns + i * kWinogradIn, 1, y);
#pragma GCC unroll 4
    for (int j = 0; j < kWinogradOut; ++j) {
      if (j >= o.columns) break;
      F16 v = y[j] + bias;
      if (o.residual != nullptr) {
        v = v + load_lanes(o.residual + i * o.residual_y + j * o.residual_x + channel, lanes);
      }
      if (o.relu) v = relu(v);
      store_lanes(o.out + i * o.out_y + j * o.out_x + channel, v, lanes);
    }
  }
}

void output(const WinogradOutput& given) {
  const WinogradOutput o = given;
  int64_t channel = 0;
  for (; channel + 16 <= o.channels; channel += 16) output_of(o, channel, 16);
  if (channel < o.channels) output_of(o, channel, o.channels - channel);
}

}  // namespace
}  // namespace planck
