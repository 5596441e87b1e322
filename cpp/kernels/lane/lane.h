#pragma once
#include <cstdint>

#include "kernels/job.h"

namespace planck {

// Same names as plan/plan.h's LaneKind, which this room may not see.
enum class LaneOp : uint8_t { sum, top, arg };
enum class LaneType : uint8_t { f32, s32, s64 };

inline constexpr int64_t kLaneBlock = 64;  // inner elements of one tile

// Along the middle axis of dense x [outer, count, inner]:
//   sum: out = the sum of all before and, unless `exclusive`, with each element, from the back if
//     `reverse`; floats add up in double, integers wrap
//   top: the k largest (or smallest), sorted, with their indices; NaN is above every number, ties
//     go to the lower index
//   arg: the index of the largest (or smallest); NaN counts as the one looked for, ties go to the
//     lower index or, if `last`, to the higher
struct LaneArgs {
  LaneOp op;
  LaneType type;
  bool largest, last, exclusive, reverse;
  const void* x;
  void* out;         // sum [outer, count, inner], top [outer, k, inner]
  int64_t* indices;  // top [outer, k, inner], arg [outer, inner]
  int64_t outer, count, inner, k;
};

#define PLANCK_LANE(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/lane/kernels.inc"
#undef PLANCK_LANE

}  // namespace planck
