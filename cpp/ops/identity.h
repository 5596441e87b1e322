#pragma once
#include "ops/declare.h"

namespace planck::ops {

struct Identity {
  PLANCK_OP_FACTS(Identity, exact, 1, 1)
  PLANCK_NO_FIELDS
};

// Inputs: data, ratio, training_mode; outputs: data as they are, a mask of ones. Training is
// not supported.
struct Dropout {
  PLANCK_OP_FACTS(Dropout, exact, 1, 3, 1, 2)
  int64_t seed = 0;
  static void fields(auto& self, auto&& visit) { visit("seed", self.seed); }
};

}  // namespace planck::ops
