#pragma once
#include "ops/declare.h"

namespace planck::ops {

struct Expand {  // inputs: data, shape; both broadcast against each other
  PLANCK_OP_FACTS(Expand, exact, 2, 2)
  PLANCK_NO_FIELDS
};

struct Tile {  // inputs: data, repeats of each axis
  PLANCK_OP_FACTS(Tile, exact, 2, 2)
  PLANCK_NO_FIELDS
};

struct Broadcast {  // to exactly this shape
  PLANCK_OWN_OP_FACTS(Broadcast, exact, 1, 1)
  std::vector<Dim> shape;

  static void fields(auto& self, auto&& visit) { visit("shape", self.shape); }
};

}  // namespace planck::ops
