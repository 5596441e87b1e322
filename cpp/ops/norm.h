#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: x, gain, bias (optional); outputs: y, mean, 1 / standard deviation. With the mean and
// the variance over all axes from `axis` on:
//   y = (x - mean) / sqrt(variance + epsilon) * gain + bias
struct LayerNormalization {
  PLANCK_OP_FACTS(LayerNormalization, reduction, 2, 3, 1, 3)
  int64_t axis = -1;
  double epsilon = 1e-5;
  int64_t stash_type = 1;  // ONNX number of the type to compute in; the reference is wider anyway

  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("epsilon", self.epsilon);
    visit("stash_type", self.stash_type);
  }
};

// Inputs: x, residual, gain, bias (optional); outputs: y, and sum = x + residual if asked for.
// y = LayerNormalization(x + residual, gain, bias).
struct AddLayerNorm {
  PLANCK_OWN_OP_FACTS(AddLayerNorm, reduction, 3, 4, 1, 2)
  int64_t axis = -1;
  double epsilon = 1e-5;

  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("epsilon", self.epsilon);
  }
};

}  // namespace planck::ops
