#pragma once
// What an ISA file needs to walk the tiles of simd/planes.h; internal linkage.
#include "kernels/simd/planes.h"

namespace planck {
namespace {

// The part of the planes that one tile covers.
struct PlaneArea {
  int64_t first_plane, last_plane;
  int64_t row, rows, column, columns;
};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline PlaneArea area_of(const Planes& p, int64_t tile) {
  const int64_t column_blocks = (p.columns + p.column_block - 1) / p.column_block;
  const int64_t row_blocks = (p.rows + p.row_block - 1) / p.row_block;
  PlaneArea area;
  area.column = tile % column_blocks * p.column_block;
  area.row = tile / column_blocks % row_blocks * p.row_block;
  area.first_plane = tile / column_blocks / row_blocks * p.plane_block;
  area.last_plane = smaller(area.first_plane + p.plane_block, p.count);
  area.rows = smaller(p.row_block, p.rows - area.row);
  area.columns = smaller(p.column_block, p.columns - area.column);
  return area;
}

// The place of a plane for an operand with these steps of the outer dims.
inline int64_t outer_offset(const Planes& p, const int64_t* strides, int64_t plane) {
  int64_t offset = 0;
  for (int i = p.rank - 1; i >= 0; --i) {
    offset += plane % p.dims[i] * strides[i];
    plane /= p.dims[i];
  }
  return offset;
}

}  // namespace
}  // namespace planck
