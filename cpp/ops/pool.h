#pragma once
#include "ops/declare.h"
#include "ops/window.h"

namespace planck::ops {

// Over windows of every channel of [N,C,..].
struct MaxPool : Windowed {  // outputs: y, and where in the whole input each maximum lies
  PLANCK_OP_FACTS(MaxPool, exact, 1, 1, 1, 2)
  int64_t ceil_mode = 0, storage_order = 0;
  static void fields(auto& self, auto&& visit) {
    Windowed::fields(self, visit);
    visit("ceil_mode", self.ceil_mode);
    visit("storage_order", self.storage_order);
  }
};

struct AveragePool : Windowed {
  PLANCK_OP_FACTS(AveragePool, reduction, 1, 1)
  int64_t ceil_mode = 0, count_include_pad = 0;
  static void fields(auto& self, auto&& visit) {
    Windowed::fields(self, visit);
    visit("ceil_mode", self.ceil_mode);
    visit("count_include_pad", self.count_include_pad);
  }
};

struct LpPool : Windowed {  // (sum |x|^p)^(1/p)
  PLANCK_OP_FACTS(LpPool, reduction, 1, 1)
  int64_t ceil_mode = 0, p = 2;
  static void fields(auto& self, auto&& visit) {
    Windowed::fields(self, visit);
    visit("ceil_mode", self.ceil_mode);
    visit("p", self.p);
  }
};

// y = x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ^ beta.
struct LRN {
  PLANCK_OP_FACTS(LRN, reduction, 1, 1)
  double alpha = 1e-4, beta = 0.75, bias = 1;
  int64_t size = 0;
  static void fields(auto& self, auto&& visit) {
    visit("alpha", self.alpha);
    visit("beta", self.beta);
    visit("bias", self.bias);
    visit("size", self.size);
  }
};

}  // namespace planck::ops
