#include "kernels/qwinograd/qwinograd.h"

namespace planck {
namespace {

// B^T d.
void transform_in(const int* d, int64_t step, int* v) {
  v[0] = d[0] - d[2 * step];
  v[1] = d[step] + d[2 * step];
  v[2] = d[2 * step] - d[step];
  v[3] = d[step] - d[3 * step];
}

// A^T m; unsigned, since sums may wrap.
void transform_out(const uint32_t* m, int64_t step, uint32_t* y) {
  y[0] = m[0] + m[step] + m[2 * step];
  y[1] = m[step] - m[2 * step] - m[3 * step];
}

}  // namespace

void qwinograd_u8_2x2_portable_input(const QwinogradInput& in) {
  for (int64_t channel = 0; channel < in.channels; ++channel) {
    int d[kQwinogradPoints], rows[kQwinogradPoints];
    for (int i = 0; i < kQwinogradPoints; ++i) d[i] = in.place[i][channel];
    for (int y = 0; y < kQwinogradIn; ++y) {
      transform_in(d + y * kQwinogradIn, 1, rows + y * kQwinogradIn);
    }
    for (int x = 0; x < kQwinogradIn; ++x) {
      int v[kQwinogradIn];
      transform_in(rows + x, kQwinogradIn, v);
      for (int y = 0; y < kQwinogradIn; ++y) {
        in.v[(y * kQwinogradIn + x) * in.point_step + channel] = static_cast<int16_t>(v[y]);
      }
    }
  }
}

void qwinograd_u8_2x2_portable_output(const QwinogradOutput& o) {
  for (int64_t column = 0; column < kQwinogradLanes; ++column) {
    uint32_t m[kQwinogradPoints], rows[kQwinogradOut * kQwinogradIn];
    for (int i = 0; i < kQwinogradPoints; ++i) {
      m[i] = static_cast<uint32_t>(o.m[i * o.point_step + column]);
    }
    for (int x = 0; x < kQwinogradIn; ++x) {
      uint32_t y[kQwinogradOut];
      transform_out(m + x, kQwinogradIn, y);
      for (int i = 0; i < kQwinogradOut; ++i) rows[i * kQwinogradIn + x] = y[i];
    }
    for (int64_t row = 0; row < o.rows; ++row) {
      uint32_t y[kQwinogradOut];
      transform_out(rows + row * kQwinogradIn, 1, y);
      for (int64_t i = 0; i < o.columns; ++i) {
        o.sums[row * o.row_step + i * kQwinogradLanes + column] = static_cast<int32_t>(y[i]) >> 2;
      }
    }
  }
}

}  // namespace planck
