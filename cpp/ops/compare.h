#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Element-wise ops whose result is boolean, and Where, which reads one.
#define PLANCK_COMPARE(Op)           \
  struct Op {                        \
    PLANCK_OP_FACTS(Op, exact, 2, 2) \
    PLANCK_NO_FIELDS                 \
  };
PLANCK_COMPARE(And)
PLANCK_COMPARE(Or)
PLANCK_COMPARE(Xor)
PLANCK_COMPARE(Equal)
PLANCK_COMPARE(Less)
PLANCK_COMPARE(LessOrEqual)
PLANCK_COMPARE(Greater)
PLANCK_COMPARE(GreaterOrEqual)
#undef PLANCK_COMPARE

struct Not {
  PLANCK_OP_FACTS(Not, exact, 1, 1)
  PLANCK_NO_FIELDS
};

struct IsNaN {
  PLANCK_OP_FACTS(IsNaN, exact, 1, 1)
  PLANCK_NO_FIELDS
};

struct IsInf {
  PLANCK_OP_FACTS(IsInf, exact, 1, 1)
  int64_t detect_negative = 1, detect_positive = 1;
  static void fields(auto& self, auto&& visit) {
    visit("detect_negative", self.detect_negative);
    visit("detect_positive", self.detect_positive);
  }
};

struct Where {  // inputs: condition, value if true, value if false
  PLANCK_OP_FACTS(Where, exact, 3, 3)
  PLANCK_NO_FIELDS
};

}  // namespace planck::ops
