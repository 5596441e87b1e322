#pragma once
#include <string>

#include "ops/declare.h"

namespace planck::ops {

// Inputs: x[..,K], w[K,N], bias[N] (optional), residual[..,N] (optional).
// y = activation(x w + bias) + residual
struct Linear {
  PLANCK_OWN_OP_FACTS(Linear, reduction, 2, 4)
  std::string activation;  // "" or a name of ops/activation.h

  static void fields(auto& self, auto&& visit) { visit("activation", self.activation); }
};

}  // namespace planck::ops
