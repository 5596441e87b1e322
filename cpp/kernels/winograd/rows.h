#pragma once
#include <vector>

#include "kernels/jit/block.h"
#include "kernels/matmul/rows.h"
#include "kernels/winograd/winograd.h"

namespace planck {

// Shapes and strides must not change after plan_winograd; pointers may, between runs.
struct WinogradArgs {
  const float* x;
  const float* w;  // transformed weights [36 * channels, n], packed by pack_b of the row
  const float *bias, *residual;
  float* out;
  WindowSteps y_axis, x_axis;  // kernel 3, stride and dilation 1
  int64_t images, channels, n;
  int64_t image_step;                   // of x
  int64_t out_stride, residual_stride;  // from place to place, all axes alike
  const EltProgram* program;            // at the end; operand 0 is the sum so far

  struct Plan {  // filled by plan_winograd
    jit::GemmTile tile;
    WinogradFns fns;
    EltStripFn strip;
    bool relu;
    int64_t down, across;     // patches of a picture along its axes
    int64_t patches, panels;  // of one tile
    int64_t patch_groups, panel_groups, pitch, scratch_bytes;
  } plan;
};

// As plan_matmul: the row is that of the products.
Job plan_winograd(const MatmulRow& row, WinogradArgs& args);
inline int64_t scratch_bytes(const WinogradArgs& args) { return args.plan.scratch_bytes; }

// G w G^T of weights [n, channels, 3, 3] as the matrix [36 * channels, n].
std::vector<float> winograd_weights(const float* w, int64_t n, int64_t channels);

}  // namespace planck
