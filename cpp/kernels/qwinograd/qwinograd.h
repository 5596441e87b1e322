#pragma once
// Convolutions of bytes, 3x3 with stride 1, by Winograd's minimal filtering in integers: products
// of 16 bits, 16 for 2x2 outputs or 36 for 4x4, instead of 36 and 144 of 8 bits. A. Lavin, S. Gray,
// "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308.
// Exact: each row of G is scaled until it is whole, so that transformed weights and places fit 16
// bits, and the transform back gives a multiple of the direct sum: 4 times it, or 9 times and up to
// 64 times. Sums may wrap on the way: all is arithmetic modulo 2^32, where a division by 9 is a
// multiplication, and only the multiple by the power of two has to fit (weights_fit in rows.h).
#include <cstdint>

#include "kernels/window.h"

namespace planck {

// Columns of a panel of weights; channels are counted in as many.
inline constexpr int64_t kQwinogradLanes = 16;

// A patch is `out` x `out` outputs, which read `in` x `in` places.
struct QwinogradForm {
  int64_t out;  // 2 or 4
  constexpr int64_t in() const { return out + 2; }
  constexpr int64_t points() const { return in() * in(); }
};
inline constexpr int64_t kQwinogradMostPoints = 36;

// v[point * point_step + channel]: B^T d B of one patch. Channels are written up to the next whole
// vector, which is 32 at most.
struct QwinogradInput {
  const uint8_t* const* place;  // of each point: `channels` bytes
  int64_t channels;
  int16_t* v;
  int64_t point_step;
};

// The sums of one patch, 16 columns of the product: A^T m A without its factor.
struct QwinogradOutput {
  const int32_t* m;  // m[point * point_step + column]
  int64_t point_step;
  int32_t* sums;  // output [y, x] at y * row_step + x * 16
  int64_t row_step;
  int64_t rows, columns;  // outputs that exist
};

struct QwinogradFns {
  void (*input)(const QwinogradInput&);
  void (*output)(const QwinogradOutput&);
};

#define PLANCK_QWINOGRAD(name, outputs, isa)   \
  void name##_input(const QwinogradInput& in); \
  void name##_output(const QwinogradOutput& out);
#include "kernels/qwinograd/kernels.inc"
#undef PLANCK_QWINOGRAD

}  // namespace planck
