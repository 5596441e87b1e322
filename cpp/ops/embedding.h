#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: table 0 [V0,D], ids 0, table 1 [V1,D], ids 1, .., then gain and bias if norm is 1. The
// ids broadcast together and count from the back if negative, as in Gather.
// y = sum_i table_i[ids_i], then a LayerNormalization over the last axis if norm is 1.
struct Embedding {
  PLANCK_OWN_OP_FACTS(Embedding, reduction, 2, -1)
  int64_t tables = 1;
  double epsilon = 1e-5;
  int64_t norm = 0;

  static void fields(auto& self, auto&& visit) {
    visit("tables", self.tables);
    visit("epsilon", self.epsilon);
    visit("norm", self.norm);
  }
};

}  // namespace planck::ops
