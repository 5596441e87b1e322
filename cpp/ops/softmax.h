#pragma once
#include "ops/declare.h"

namespace planck::ops {

struct Softmax {  // y[i] = exp(x[i] - max x) / sum_j exp(x[j] - max x), along one axis
  PLANCK_OP_FACTS(Softmax, rounding, 1, 1)
  int64_t axis = -1;
  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

struct Hardmax {  // 1 at the first maximum along the axis, 0 elsewhere
  PLANCK_OP_FACTS(Hardmax, exact, 1, 1)
  int64_t axis = -1;
  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

struct LogSoftmax {  // its logarithm
  PLANCK_OP_FACTS(LogSoftmax, rounding, 1, 1)
  int64_t axis = -1;
  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

}  // namespace planck::ops
