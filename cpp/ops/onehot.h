#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: indices, depth (one number), values [off, on]. An index outside [-depth, depth) lights
// nothing.
struct OneHot {
  PLANCK_OP_FACTS(OneHot, exact, 3, 3)
  int64_t axis = -1;  // of the result, which has one axis more than the indices

  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

}  // namespace planck::ops
