#pragma once
#include <cstdint>

#include "kernels/job.h"

namespace planck {

// Same names as plan/plan.h's ReduceKind, which this room may not see.
enum class ReduceOp : uint8_t { sum, mean, max, min, l2, l1, sum_square, product };

enum class ReduceType : uint8_t { f32, s32, s64 };  // integers: sum, max, min, product

// out[o, i] = reduce over r of x[o, r, i]; both dense. Integers wrap. Floats: sums and products in
// double, r in order; where inner is 1, in 16 lanes (r modulo 16) whose tree is that of
// simd/vec_*.h; long narrow columns in parts, see reduce_parts. So the bits depend neither on the
// ISA nor on how the outer and inner axes are cut. max and min give NaN if any term is NaN.
struct ReduceArgs {
  ReduceOp op;
  ReduceType type;
  const void* x;
  void* out;
  int64_t outer, count, inner;
  double* sums = nullptr;  // [outer, reduce_parts, inner], where there is more than one part
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

// Rows side by side that fill whole vectors, and a few of them.
static constexpr int64_t reduce_side(int64_t inner) {
  constexpr int64_t kVector = 8, kFew = 32;
  int64_t side = 1;
  while (side * inner % kVector != 0 || side * inner < kFew) side *= 2;
  return side;
}
inline constexpr int64_t kReduceSide = 8 * kReduceBlock;  // floats of them, at most

// Sums over long narrow columns would be one tile, whose rows fill no vectors: parts of them are
// summed first, in `side` sums for each column (r modulo side), and then in order.
static constexpr int64_t reduce_part_rows(const ReduceArgs& a) {
  constexpr int64_t kPart = 16384, kMostParts = 64;  // elements
  const int64_t side = reduce_side(a.inner);
  const int64_t few = kPart / a.inner, many = a.count / kMostParts + 1;
  return ((few > many ? few : many) + side - 1) / side * side;
}
static constexpr int64_t reduce_parts(const ReduceArgs& a) {
  const bool sums = a.op == ReduceOp::sum || a.op == ReduceOp::mean;
  if (!sums || a.type != ReduceType::f32 || a.inner <= 1 || a.inner > kReduceBlock) return 1;
  const int64_t rows = reduce_part_rows(a);
  return a.count <= rows ? 1 : (a.count + rows - 1) / rows;
}

// `name` reduces; `name_parts` comes before it where there are parts, a tile for each.
#define PLANCK_REDUCE(name, isa)                                   \
  void name(const void* args, int64_t tile, const Worker& worker); \
  void name##_parts(const void* args, int64_t tile, const Worker& worker);
#include "kernels/reduce/kernels.inc"
#undef PLANCK_REDUCE

}  // namespace planck
