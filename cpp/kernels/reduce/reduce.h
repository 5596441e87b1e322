#pragma once
#include <cstdint>

#include "kernels/job.h"

namespace planck {

// Same names as plan/plan.h's ReduceKind, which this room may not see.
enum class ReduceOp : uint8_t { sum, mean, max, min, l2, l1, sum_square, product };

enum class ReduceType : uint8_t { f32, s32, s64 };  // integers: sum, max, min, product

// out[o, i] = reduce over r of x[o, r, i]; both dense. Integers wrap. Floats: sums and products in
// double, r in order; where inner is 1, in 16 lanes (r modulo 16) whose tree is that of
// simd/vec_*.h. So the bits depend neither on the ISA nor on how the outer and inner axes are cut.
// max and min give NaN if any term is NaN.
struct ReduceArgs {
  ReduceOp op;
  ReduceType type;
  const void* x;
  void* out;
  int64_t outer, count, inner;
};

// Inner elements of one tile; the accumulators of a tile stay on the stack.
inline constexpr int64_t kReduceBlock = 128;
inline constexpr int64_t kReduceTile = 8192;  // elements read by one tile, about

// The same where a single tile would have much work: each core then reads a part of every row.
// Static, as reduce_places: an inline function would be a weak symbol in ISA files.
static constexpr int64_t reduce_block(const ReduceArgs& a) {
  constexpr int64_t kPart = 48, kMuch = 1 << 17;
  const bool alone = a.outer == 1 && a.inner <= kReduceBlock;
  return alone && a.inner > kPart && a.count > kMuch / a.inner ? kPart : kReduceBlock;
}

// Outer places of one tile.
static constexpr int64_t reduce_places(const ReduceArgs& a) {
  const int64_t block = reduce_block(a);
  const int64_t columns = a.inner < block ? a.inner : block;
  if (a.count <= 0 || columns <= 0 || a.count >= kReduceTile / columns) return 1;
  return kReduceTile / columns / a.count;
}

#define PLANCK_REDUCE(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/reduce/kernels.inc"
#undef PLANCK_REDUCE

}  // namespace planck
