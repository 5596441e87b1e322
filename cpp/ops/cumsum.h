#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: data, axis (one integer).
struct CumSum {
  PLANCK_OP_FACTS(CumSum, reduction, 2, 2)
  int64_t exclusive = 0;  // 1: the sum before each element
  int64_t reverse = 0;    // 1: from the back

  static void fields(auto& self, auto&& visit) {
    visit("exclusive", self.exclusive);
    visit("reverse", self.reverse);
  }
};

}  // namespace planck::ops
