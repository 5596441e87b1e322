#pragma once
#include "ops/declare.h"

namespace planck::ops {

// NumPy's matmul: vectors become a row or a column, leading axes broadcast.
struct MatMul {
  PLANCK_OP_FACTS(MatMul, reduction, 2, 2)
  PLANCK_NO_FIELDS
};

// y = alpha op(a) op(b) + beta c, op being an optional transpose and c broadcast.
struct Gemm {
  PLANCK_OP_FACTS(Gemm, reduction, 2, 3)
  double alpha = 1, beta = 1;
  int64_t transA = 0, transB = 0;  // NOLINT(readability-identifier-naming): ONNX's names

  static void fields(auto& self, auto&& visit) {
    visit("alpha", self.alpha);
    visit("beta", self.beta);
    visit("transA", self.transA);
    visit("transB", self.transB);
  }
};

}  // namespace planck::ops
