#pragma once
// Convolutions of 3x3, stride 1, by Winograd's F(4x4, 3x3): 36 products for 16 outputs instead of
// 144. A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308.
// Relative rms error about 1e-6, so for precision fp32-fast only. Same bits on every ISA, for any
// cut and any batch split.
#include <cstdint>

#include "kernels/eltwise/eltwise.h"
#include "kernels/window.h"

namespace planck {

inline constexpr int kWinogradOut = 4;      // outputs of one patch along an axis
inline constexpr int kWinogradIn = 6;       // places that they read
inline constexpr int kWinogradPoints = 36;  // products for each pair of channels

// One patch: where its places lie and which of them exist. Channels are innermost.
struct WinogradPatch {
  const float* x;          // place [0, 0], perhaps outside of the picture
  int64_t y_step, x_step;  // floats
  int64_t y_from, y_to;    // places inside, of kWinogradIn
  int64_t x_from, x_to;
};

// v[point * point_step + channel]: B^T d B for every channel.
struct WinogradInput {
  WinogradPatch patch;
  int64_t channels;
  float* v;
  int64_t point_step;
};

// y = A^T m A + bias + residual, then relu; only rows x columns of the 4 x 4 outputs exist.
struct WinogradOutput {
  const float* m;  // m[point * point_step + channel]
  int64_t point_step;
  int64_t channels;
  const float *bias, *residual;                  // or none
  float* out;                                    // output [0, 0]
  int64_t out_y, out_x, residual_y, residual_x;  // floats
  int64_t rows, columns;
  bool relu;
};

struct WinogradFns {
  void (*input)(const WinogradInput&);
  void (*output)(const WinogradOutput&);
};

#define PLANCK_WINOGRAD(name, isa)            \
  void name##_input(const WinogradInput& in); \
  void name##_output(const WinogradOutput& out);
#include "kernels/winograd/kernels.inc"
#undef PLANCK_WINOGRAD

}  // namespace planck
