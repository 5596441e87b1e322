#pragma once
#include "ops/declare.h"

namespace planck::ops {

struct Concat {
  PLANCK_OP_FACTS(Concat, exact, 1, -1)
  int64_t axis = 0;  // required in ONNX

  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

}  // namespace planck::ops
