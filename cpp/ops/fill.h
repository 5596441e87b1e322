#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Input: the shape. ONNX's tensor attribute is split into its number and its type.
struct ConstantOfShape {
  PLANCK_OP_FACTS(ConstantOfShape, exact, 1, 1)
  double value = 0;
  int64_t dtype = 1;  // ONNX number; 1 is f32

  static void fields(auto& self, auto&& visit) {
    visit("value", self.value);
    visit("dtype", self.dtype);
  }
};

// The same with its shape as an attribute.
struct Fill {
  PLANCK_OWN_OP_FACTS(Fill, exact, 0, 0)
  std::vector<Dim> shape;
  double value = 0;
  int64_t dtype = 1;

  static void fields(auto& self, auto&& visit) {
    visit("shape", self.shape);
    visit("value", self.value);
    visit("dtype", self.dtype);
  }
};

}  // namespace planck::ops
