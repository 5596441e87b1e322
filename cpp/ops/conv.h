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

// One spatial axis of its result, and how many of the first places the padding cuts off.
struct GrownAxis {
  Dim out;
  int64_t begin = 0;
};
// GraphError for lists of the wrong length; UnsupportedError where the padding is not known.
std::vector<GrownAxis> grown_axes(const ConvTranspose& op, const std::vector<WindowAxis>& axes,
                                  std::span<const Dim> in);
// Why no product has its phases, the results that lie a stride apart, as columns; empty if one has.
// `weights`: the shape of its weights.
std::string why_no_phases(const ConvTranspose& conv, const Shape& weights);

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
