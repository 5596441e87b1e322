#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Element-wise arithmetic with NumPy broadcasting. Integers wrap at their width.
#define PLANCK_BINARY(Op, accuracy)     \
  struct Op {                           \
    PLANCK_OP_FACTS(Op, accuracy, 2, 2) \
    PLANCK_NO_FIELDS                    \
  };
PLANCK_BINARY(Add, rounding)
PLANCK_BINARY(Sub, rounding)
PLANCK_BINARY(Mul, rounding)
PLANCK_BINARY(Div, rounding)  // integers truncate, as C; by zero is a RunError
PLANCK_BINARY(Pow, rounding)  // has the base's type, whatever the exponent's is
#undef PLANCK_BINARY

struct Mod {
  PLANCK_OP_FACTS(Mod, rounding, 2, 2)
  int64_t fmod = 0;  // 0: sign of the divisor; 1: sign of the dividend

  static void fields(auto& self, auto&& visit) { visit("fmod", self.fmod); }
};

struct PRelu {  // x < 0 ? slope * x : x; slope broadcasts to x
  PLANCK_OP_FACTS(PRelu, rounding, 2, 2)
  PLANCK_NO_FIELDS
};

struct Min {
  PLANCK_OP_FACTS(Min, exact, 1, -1)
  PLANCK_NO_FIELDS
};

struct Max {
  PLANCK_OP_FACTS(Max, exact, 1, -1)
  PLANCK_NO_FIELDS
};

}  // namespace planck::ops
