#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Rounds to nearest even where the target is a narrower float; floats to integers truncate, NaN
// gives 0 and what does not fit saturates, or wraps in four bits.
struct Cast {
  PLANCK_OP_FACTS(Cast, rounding, 1, 1)
  int64_t to = 0;        // ONNX number of the type; required
  int64_t saturate = 1;  // to float8: what exceeds its range becomes its largest number

  static void fields(auto& self, auto&& visit) {
    visit("to", self.to);
    visit("saturate", self.saturate);
  }
};

}  // namespace planck::ops
