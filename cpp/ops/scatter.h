#pragma once
#include <string>

#include "ops/declare.h"

namespace planck::ops {

// Inputs: data, indices, updates: data with some elements replaced, or joined by `reduction` (none,
// add, mul, max, min).
struct ScatterElements {  // indices name places along `axis`, everything else stays in its place
  PLANCK_OP_FACTS(ScatterElements, rounding, 3, 3)
  int64_t axis = 0;
  std::string reduction = "none";
  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("reduction", self.reduction);
  }
};

struct ScatterND {  // rows of indices name elements or slices
  PLANCK_OP_FACTS(ScatterND, rounding, 3, 3)
  std::string reduction = "none";
  static void fields(auto& self, auto&& visit) { visit("reduction", self.reduction); }
};

// Inputs: cache, update, start for each batch (optional, 0). The update replaces the part of the
// cache that starts there along `axis`; mode "circular" goes on at the front, "linear" must fit.
struct TensorScatter {
  PLANCK_OP_FACTS(TensorScatter, exact, 2, 3)
  int64_t axis = -2;
  std::string mode = "linear";
  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("mode", self.mode);
  }
};

}  // namespace planck::ops
