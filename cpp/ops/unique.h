#pragma once
#include <cstdint>

#include "ops/declare.h"

namespace planck::ops {

constexpr int64_t kNoAxis = INT64_MIN;  // an axis that is not given: all elements in their order

// The different elements of x, or parts of x along an axis; then, of each, where it comes first and
// how often it is there (output 3), and for each of x which one it is (output 2).
struct Unique {
  PLANCK_OP_FACTS(Unique, exact, 1, 1, 1, 4)
  int64_t axis = kNoAxis;
  int64_t sorted = 1;  // 0: as they come

  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("sorted", self.sorted);
  }
};

// The parts of x along an axis where the condition holds; what is beyond its end counts as false.
struct Compress {
  PLANCK_OP_FACTS(Compress, exact, 2, 2)
  int64_t axis = kNoAxis;

  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

}  // namespace planck::ops
