#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: scalars start, limit, step; y[i] = start + i step while it stays before limit.
struct Range {
  PLANCK_OP_FACTS(Range, rounding, 3, 3)
  PLANCK_NO_FIELDS
};

// A Range of integers whose ends follow from shapes: no inputs are left.
struct Count {
  PLANCK_OWN_OP_FACTS(Count, exact, 0, 0)
  Dim start, step = 1, count;
  int64_t dtype = 7;  // ONNX number; 7 is s64

  static void fields(auto& self, auto&& visit) {
    visit("start", self.start);
    visit("step", self.step);
    visit("count", self.count);
    visit("dtype", self.dtype);
  }
};

}  // namespace planck::ops
