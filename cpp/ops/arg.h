#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Index of the largest or smallest element along an axis. NaN counts as the one looked for, as in
// NumPy.
#define PLANCK_ARG(Op)                                    \
  struct Op {                                             \
    PLANCK_OP_FACTS(Op, exact, 1, 1)                      \
    int64_t axis = 0;                                     \
    int64_t keepdims = 1;                                 \
    int64_t select_last_index = 0; /* among equal ones */ \
    static void fields(auto& self, auto&& visit) {        \
      visit("axis", self.axis);                           \
      visit("keepdims", self.keepdims);                   \
      visit("select_last_index", self.select_last_index); \
    }                                                     \
  };
PLANCK_ARG(ArgMax)
PLANCK_ARG(ArgMin)
#undef PLANCK_ARG

}  // namespace planck::ops
