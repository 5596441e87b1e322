#pragma once
#include "ops/declare.h"

namespace planck::ops {

// A reshape to exactly these extents, with nothing left to resolve.
struct View {
  PLANCK_OWN_OP_FACTS(View, exact, 1, 1)
  std::vector<Dim> shape;

  static void fields(auto& self, auto&& visit) { visit("shape", self.shape); }
};

}  // namespace planck::ops
