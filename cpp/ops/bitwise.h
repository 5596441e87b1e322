#pragma once
#include <string>

#include "ops/declare.h"

namespace planck::ops {

// On the bits of integers, with NumPy broadcasting.
#define PLANCK_BITWISE(Op, inputs)             \
  struct Op {                                  \
    PLANCK_OP_FACTS(Op, exact, inputs, inputs) \
    PLANCK_NO_FIELDS                           \
  };
PLANCK_BITWISE(BitwiseAnd, 2)
PLANCK_BITWISE(BitwiseNot, 1)
PLANCK_BITWISE(BitwiseOr, 2)
PLANCK_BITWISE(BitwiseXor, 2)
#undef PLANCK_BITWISE

// By the width or more, or by a negative number: nothing is left but the sign, to the right.
struct BitShift {
  PLANCK_OP_FACTS(BitShift, exact, 2, 2)
  std::string direction;  // LEFT or RIGHT
  static void fields(auto& self, auto&& visit) { visit("direction", self.direction); }
};

struct BitCast {  // the same bytes as another type of the same size
  PLANCK_OP_FACTS(BitCast, exact, 1, 1)
  int64_t to = 0;  // ONNX number
  static void fields(auto& self, auto&& visit) { visit("to", self.to); }
};

}  // namespace planck::ops
