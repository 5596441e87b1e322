#pragma once
// An N-d loop over several operands as a list of equal 2-D planes, cut into a fixed number of
// tiles. Plain data: made by kernels/simd/planes.cpp, read by ISA files.
#include <cstdint>

namespace planck {

inline constexpr int kPlanesRank = 30;  // outer dims; rank 32 with the two of the plane

// Dims are outermost first; the plane is the last two. Tiles split planes, rows and columns into
// blocks that depend on the extents only.
struct Planes {
  int32_t rank;  // outer dims, 0 .. kPlanesRank
  int64_t dims[kPlanesRank];
  int64_t count;  // product of dims
  int64_t rows, columns;
  int64_t plane_block, row_block, column_block;
  int64_t tiles;
};

}  // namespace planck
