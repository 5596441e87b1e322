#pragma once
// From N-d shapes and strides to planes (simd/planes.h). Not for ISA files.
#include <span>
#include <vector>

#include "kernels/simd/planes.h"

namespace planck {

// The dims of a loop, outermost first, and for each operand the step of each dim.
struct StridedLoop {
  std::vector<int64_t> dims;
  std::vector<std::vector<int64_t>> strides;

  // Drops dims of extent 1 and joins neighbours that every operand walks as one.
  void collapse();
  // Adds outer dims of extent 1 until there are rows and columns.
  void pad_to_plane();
};

// Steps of a dense operand over the dims that it broadcasts to, 0 where it is repeated.
// InternalError where it does not.
std::vector<int64_t> broadcast_strides(std::span<const int64_t> dims,
                                       std::span<const int64_t> out_dims);

// The planes of a collapsed and padded loop (rank 32 at most, else InternalError), cut into tiles
// of about `elements` elements; column blocks are multiples of `step`.
Planes make_planes(const StridedLoop& loop, int64_t elements, int64_t step);

}  // namespace planck
