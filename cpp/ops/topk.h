#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: data, k (one integer); outputs: the k best values along an axis and their indices. The
// result is always sorted; among equal values the lower index comes first.
struct TopK {
  PLANCK_OP_FACTS(TopK, exact, 2, 2, 2, 2)
  int64_t axis = -1;
  int64_t largest = 1;
  int64_t sorted = 1;  // 0 leaves the order open

  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("largest", self.largest);
    visit("sorted", self.sorted);
  }
};

}  // namespace planck::ops
