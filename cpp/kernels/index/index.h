#pragma once
#include <cstdint>

#include "kernels/job.h"

namespace planck {

enum class IndexOp : uint8_t { gather, scatter, one_hot };

inline constexpr int kIndexWidth = 32;
inline constexpr int64_t kIndexTile = 8192;  // elements

// Moves runs of `inner` elements of 1, 2, 4 or 8 bytes between a dense array and rows that follow
// one another. Row r stands for the run that begins at
//   r / block * block_step + r % period * period_step + sum over k of index k * steps[k]
// in the array, with the `width` indices of row r (of r % block where they `repeat`). A negative
// index counts from the end of its extent. Rows with an index outside, which the caller refuses
// with first_bad_index, are never followed: gather writes zeros, scatter leaves them out.
//   gather: out[r] = data[row r]; scatter: out[row r] = data[r], in order, as one tile
//   one_hot: out[o, d, i] = data[index [o, i] == d], out dense [rows / period, extents[0], period];
//     indices outside light nothing
struct IndexArgs {
  IndexOp op;
  bool repeat;
  int32_t bytes, index_bytes;  // of an index: 4 or 8
  int32_t width;
  const void* data;
  const void* indices;
  void* out;
  int64_t rows, inner;
  int64_t block, block_step;    // block is at least 1
  int64_t period, period_step;  // period is at least 1
  int64_t extents[kIndexWidth], steps[kIndexWidth];
};

#define PLANCK_INDEX(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/index/kernels.inc"
#undef PLANCK_INDEX

}  // namespace planck
