#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: data, axis (one integer).
#define PLANCK_CUMULATIVE(Op)                                      \
  struct Op {                                                      \
    PLANCK_OP_FACTS(Op, reduction, 2, 2)                           \
    int64_t exclusive = 0; /* 1: what comes before each element */ \
    int64_t reverse = 0;   /* 1: from the back */                  \
    static void fields(auto& self, auto&& visit) {                 \
      visit("exclusive", self.exclusive);                          \
      visit("reverse", self.reverse);                              \
    }                                                              \
  };
PLANCK_CUMULATIVE(CumProd)
PLANCK_CUMULATIVE(CumSum)
#undef PLANCK_CUMULATIVE

}  // namespace planck::ops
