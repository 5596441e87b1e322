#pragma once
// Convolutions of bytes, 3x3 with stride 1, by Winograd's F(2x2, 3x3) in integers: 16 products of
// 16 bits for 4 outputs instead of 36 of 8 bits. A. Lavin, S. Gray, "Fast Algorithms for
// Convolutional Neural Networks", arXiv 1509.09308. Twice their G is whole, so that transformed
// weights and places fit 16 bits and what comes back is four times the direct sum, exactly: sums
// may wrap on the way, since only that multiple has to fit 32 bits (weights_fit in rows.h).
#include <cstdint>

#include "kernels/window.h"

namespace planck {

inline constexpr int kQwinogradOut = 2;      // outputs of one patch along an axis
inline constexpr int kQwinogradIn = 4;       // places that they read
inline constexpr int kQwinogradPoints = 16;  // products for each pair of channels
// Channels that transforms take at once, and columns of a panel of weights.
inline constexpr int64_t kQwinogradLanes = 16;

// v[point * point_step + channel]: B^T d B of one patch, for channels up to the next whole lanes.
struct QwinogradInput {
  const uint8_t* const* place;  // 16, row-major: each has `channels` bytes
  int64_t channels;
  int16_t* v;
  int64_t point_step;
};

// sums[row * row_step + column * 16 ...] = A^T m A / 4 of one patch, 16 columns of the product.
struct QwinogradOutput {
  const int32_t* m;  // m[point * point_step + column]
  int64_t point_step;
  int32_t* sums;
  int64_t row_step;
  int64_t rows, columns;  // outputs that exist, of 2 x 2
};

struct QwinogradFns {
  void (*input)(const QwinogradInput&);
  void (*output)(const QwinogradOutput&);
};

#define PLANCK_QWINOGRAD(name, isa)            \
  void name##_input(const QwinogradInput& in); \
  void name##_output(const QwinogradOutput& out);
#include "kernels/qwinograd/kernels.inc"
#undef PLANCK_QWINOGRAD

}  // namespace planck
