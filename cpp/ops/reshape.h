#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Ops that change the shape and leave the elements where they are.
struct Reshape {  // inputs: data, shape; in shape 0 keeps an extent, -1 is what is left
  PLANCK_OP_FACTS(Reshape, exact, 2, 2)
  int64_t allowzero = 0;  // 1: 0 means 0
  static void fields(auto& self, auto&& visit) { visit("allowzero", self.allowzero); }
};

struct Flatten {  // to a matrix: axes before `axis` and the others
  PLANCK_OP_FACTS(Flatten, exact, 1, 1)
  int64_t axis = 1;
  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

struct Squeeze {  // inputs: data, axes (absent: every axis whose extent is the number 1)
  PLANCK_OP_FACTS(Squeeze, exact, 1, 2)
  PLANCK_NO_FIELDS
};

struct Unsqueeze {  // inputs: data, axes of the result
  PLANCK_OP_FACTS(Unsqueeze, exact, 2, 2)
  PLANCK_NO_FIELDS
};

}  // namespace planck::ops
