#pragma once
// Which bytes a tile has, for every ISA: some whole rows, or a part of one.
#include "kernels/lut/lut.h"

namespace planck {
namespace {

inline int64_t lut_smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline void lut_bytes(const uint8_t* table, const uint8_t* x, uint8_t* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = table[x[i]];
}

// span(x, out, count) for each stretch of neighbours.
template <class Span>
inline void run_tile(const LutArgs& a, int64_t tile, const Span& span) {
  if (a.columns >= kLutTile) {
    const int64_t pieces = (a.columns + kLutTile - 1) / kLutTile;
    const int64_t row = tile / pieces, from = tile % pieces * kLutTile;
    span(a.x + row * a.x_stride + from, a.out + row * a.out_stride + from,
         lut_smaller(kLutTile, a.columns - from));
    return;
  }
  const int64_t rows = kLutTile / a.columns;
  const int64_t last = lut_smaller((tile + 1) * rows, a.rows);
  for (int64_t row = tile * rows; row < last; ++row) {
    span(a.x + row * a.x_stride, a.out + row * a.out_stride, a.columns);
  }
}

}  // namespace
}  // namespace planck
