#pragma once
#include "ops/declare.h"

namespace planck::ops {

struct Transpose {
  PLANCK_OP_FACTS(Transpose, exact, 1, 1)
  std::vector<int64_t> perm;  // axis i of the result is axis perm[i] of the input; empty: reversed

  static void fields(auto& self, auto&& visit) { visit("perm", self.perm); }
};

}  // namespace planck::ops
