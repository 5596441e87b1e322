#pragma once
#include <cstdint>

#include "kernels/job.h"

namespace planck {

// Same names as plan/plan.h's ReduceKind, which this room may not see.
enum class ReduceOp : uint8_t { sum, mean, max, min, l2 };

// out[o, i] = reduce over r of x[o, r, i]; both dense, fp32. Sums in double, r in order, so bits do
// not depend on how the outer and inner axes are cut. max and min give NaN if any term is NaN.
struct ReduceArgs {
  ReduceOp op;
  const float* x;
  float* out;
  int64_t outer, count, inner;
};

#define PLANCK_REDUCE(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/reduce/kernels.inc"
#undef PLANCK_REDUCE

}  // namespace planck
