#pragma once
#include "ops/declare.h"
#include "ops/window.h"

namespace planck::ops {

// Inputs: x [N,C,..], w [M,C/group,..], bias [M] (optional).
struct Conv : Windowed {
  PLANCK_OP_FACTS(Conv, reduction, 2, 3)
  int64_t group = 1;
  static void fields(auto& self, auto&& visit) {
    Windowed::fields(self, visit);
    visit("group", self.group);
  }
};

// Inputs: x, w and bias as for Conv, residual [N,M,..] (optional).
// y = activation(conv(x, w) + bias + residual)
struct Convolution : Windowed {
  PLANCK_OWN_OP_FACTS(Convolution, reduction, 2, 4)
  int64_t group = 1;
  std::string activation;  // as for planck.Linear
  static void fields(auto& self, auto&& visit) {
    Windowed::fields(self, visit);
    visit("group", self.group);
    visit("activation", self.activation);
  }
};

// Inputs: x [N,C,..], w [C,M/group,..], bias [M] (optional): what Conv's gradient computes.
struct ConvTranspose : Windowed {
  PLANCK_OP_FACTS(ConvTranspose, reduction, 2, 3)
  int64_t group = 1;
  std::vector<int64_t> output_padding, output_shape;
  static void fields(auto& self, auto&& visit) {
    Windowed::fields(self, visit);
    visit("group", self.group);
    visit("output_padding", self.output_padding);
    visit("output_shape", self.output_shape);
  }
};

// Inputs: x, w, zero point of x (one number), of w (one number, or one for each output channel).
struct ConvInteger : Windowed {
  PLANCK_OP_FACTS(ConvInteger, exact, 2, 4)
  int64_t group = 1;
  static void fields(auto& self, auto&& visit) {
    Windowed::fields(self, visit);
    visit("group", self.group);
  }
};

// Inputs: x, scale, zero point; w, scale(s), zero point(s); scale and zero point of y; bias in s32.
struct QLinearConv : Windowed {
  PLANCK_OP_FACTS(QLinearConv, exact, 8, 9)
  int64_t group = 1;
  static void fields(auto& self, auto&& visit) {
    Windowed::fields(self, visit);
    visit("group", self.group);
  }
};

}  // namespace planck::ops
