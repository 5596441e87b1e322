#pragma once
#include <string>

#include "ops/declare.h"

namespace planck::ops {

// Inputs: log probabilities [N,C,..], targets [N,..], weights [C] (optional).
// loss = -logs[n, target, ..] * weight[target]; "none" as it is, "sum", or "mean", which divides
// by the sum of the weights. Targets equal to ignore_index count for nothing.
struct NegativeLogLikelihoodLoss {
  PLANCK_OP_FACTS(NegativeLogLikelihoodLoss, reduction, 2, 3)
  static constexpr int64_t kNothing = INT64_MIN;
  int64_t ignore_index = kNothing;
  std::string reduction = "mean";
  static void fields(auto& self, auto&& visit) {
    visit("ignore_index", self.ignore_index);
    visit("reduction", self.reduction);
  }
};

}  // namespace planck::ops
