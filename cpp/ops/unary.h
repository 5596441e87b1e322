#pragma once
#include <string>

#include "ops/declare.h"

namespace planck::ops {

// Element-wise functions of one input, which keep its type.
#define PLANCK_UNARY(Op, accuracy)      \
  struct Op {                           \
    PLANCK_OP_FACTS(Op, accuracy, 1, 1) \
    PLANCK_NO_FIELDS                    \
  };
PLANCK_UNARY(Abs, exact)
PLANCK_UNARY(Acos, rounding)
PLANCK_UNARY(Acosh, rounding)
PLANCK_UNARY(Asin, rounding)
PLANCK_UNARY(Asinh, rounding)
PLANCK_UNARY(Atan, rounding)
PLANCK_UNARY(Atanh, rounding)
PLANCK_UNARY(Ceil, exact)
PLANCK_UNARY(Cos, rounding)
PLANCK_UNARY(Cosh, rounding)
PLANCK_UNARY(Erf, rounding)
PLANCK_UNARY(Exp, rounding)
PLANCK_UNARY(Floor, exact)
PLANCK_UNARY(HardSwish, rounding)
PLANCK_UNARY(Log, rounding)
PLANCK_UNARY(Mish, rounding)
PLANCK_UNARY(Neg, exact)
PLANCK_UNARY(Reciprocal, rounding)
PLANCK_UNARY(Relu, exact)
PLANCK_UNARY(Round, exact)  // halves to even
PLANCK_UNARY(Sigmoid, rounding)
PLANCK_UNARY(Sign, exact)
PLANCK_UNARY(Sin, rounding)
PLANCK_UNARY(Sinh, rounding)
PLANCK_UNARY(Softplus, rounding)
PLANCK_UNARY(Sqrt, rounding)
PLANCK_UNARY(Tan, rounding)
PLANCK_UNARY(Tanh, rounding)
#undef PLANCK_UNARY

struct Swish {  // x sigmoid(x)
  PLANCK_OWN_OP_FACTS(Swish, rounding, 1, 1)
  PLANCK_NO_FIELDS
};

struct LeakyRelu {
  PLANCK_OP_FACTS(LeakyRelu, rounding, 1, 1)
  double alpha = 0.01;
  static void fields(auto& self, auto&& visit) { visit("alpha", self.alpha); }
};

struct Celu {  // its slope is 1 on both sides of 0
  PLANCK_OP_FACTS(Celu, rounding, 1, 1)
  double alpha = 1;
  static void fields(auto& self, auto&& visit) { visit("alpha", self.alpha); }
};

struct Selu {
  PLANCK_OP_FACTS(Selu, rounding, 1, 1)
  double alpha = 1.67326319217681884765625, gamma = 1.05070102214813232421875;
  static void fields(auto& self, auto&& visit) {
    visit("alpha", self.alpha);
    visit("gamma", self.gamma);
  }
};

struct Shrink {  // towards 0 by bias, all the way where |x| <= lambd
  PLANCK_OP_FACTS(Shrink, rounding, 1, 1)
  double lambd = 0.5, bias = 0;
  static void fields(auto& self, auto&& visit) {
    visit("lambd", self.lambd);
    visit("bias", self.bias);
  }
};

struct ThresholdedRelu {
  PLANCK_OP_FACTS(ThresholdedRelu, exact, 1, 1)
  double alpha = 1;
  static void fields(auto& self, auto&& visit) { visit("alpha", self.alpha); }
};

struct Elu {
  PLANCK_OP_FACTS(Elu, rounding, 1, 1)
  double alpha = 1;
  static void fields(auto& self, auto&& visit) { visit("alpha", self.alpha); }
};

struct HardSigmoid {
  PLANCK_OP_FACTS(HardSigmoid, rounding, 1, 1)
  double alpha = 0.2, beta = 0.5;
  static void fields(auto& self, auto&& visit) {
    visit("alpha", self.alpha);
    visit("beta", self.beta);
  }
};

struct Gelu {
  PLANCK_OP_FACTS(Gelu, rounding, 1, 1)
  std::string approximate = "none";  // or "tanh"
  static void fields(auto& self, auto&& visit) { visit("approximate", self.approximate); }
};

// Inputs: x, then scalars low and high, each optional. Where low > high, high wins.
struct Clip {
  PLANCK_OP_FACTS(Clip, exact, 1, 3)
  PLANCK_NO_FIELDS
};

}  // namespace planck::ops
