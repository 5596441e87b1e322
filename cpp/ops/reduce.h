#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: data, axes (absent or empty: all, or none under noop_with_empty_axes).
#define PLANCK_REDUCE(Op, accuracy)                             \
  struct Op {                                                   \
    PLANCK_OP_FACTS(Op, accuracy, 1, 2)                         \
    int64_t keepdims = 1;                                       \
    int64_t noop_with_empty_axes = 0;                           \
    static void fields(auto& self, auto&& visit) {              \
      visit("keepdims", self.keepdims);                         \
      visit("noop_with_empty_axes", self.noop_with_empty_axes); \
    }                                                           \
  };
PLANCK_REDUCE(ReduceL1, reduction)
PLANCK_REDUCE(ReduceL2, reduction)
PLANCK_REDUCE(ReduceLogSum, reduction)
PLANCK_REDUCE(ReduceLogSumExp, reduction)
PLANCK_REDUCE(ReduceMax, exact)
PLANCK_REDUCE(ReduceMean, reduction)
PLANCK_REDUCE(ReduceMin, exact)
PLANCK_REDUCE(ReduceProd, reduction)
PLANCK_REDUCE(ReduceSum, reduction)
PLANCK_REDUCE(ReduceSumSquare, reduction)
#undef PLANCK_REDUCE

}  // namespace planck::ops
