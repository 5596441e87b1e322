#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: matrices [..,N,M], k (optional). Keeps what lies on and above diagonal k, or on and
// below it; the rest is 0.
struct Trilu {
  PLANCK_OP_FACTS(Trilu, exact, 1, 2)
  int64_t upper = 1;

  static void fields(auto& self, auto&& visit) { visit("upper", self.upper); }
};

}  // namespace planck::ops
