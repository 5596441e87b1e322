#pragma once
#include <string>

#include "ops/declare.h"

namespace planck::ops {

// Inputs: data, pads (all begins, then all ends; negative ones crop), constant_value, axes.
struct Pad {
  PLANCK_OP_FACTS(Pad, exact, 2, 4)
  std::string mode = "constant";  // constant, edge, reflect or wrap

  static void fields(auto& self, auto&& visit) { visit("mode", self.mode); }
};

}  // namespace planck::ops
