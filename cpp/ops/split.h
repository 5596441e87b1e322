#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: data, split (extents of the parts; absent: equal parts, the last one smaller).
struct Split {
  PLANCK_OP_FACTS(Split, exact, 1, 2, 1, INT32_MAX)
  int64_t axis = 0;
  int64_t num_outputs = 0;  // 0: as many as the node has outputs

  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("num_outputs", self.num_outputs);
  }
};

}  // namespace planck::ops
