#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: q, k, v, each [B,L,H*D] or [B,H,L,D], and a mask (optional) that broadcasts to
// [B,H,Lq,Lk].
// y = softmax(q k^T * scale + mask) v, as [B,Lq,H*Dv] if merged is 1, else as [B,H,Lq,Dv].
struct Attention {
  PLANCK_OWN_OP_FACTS(Attention, reduction, 3, 4)
  int64_t heads = 1;
  double scale = 1;
  int64_t merged = 1;
  // 1: a mask of -inf hides a score whatever it is (NaN and inf too), and a row whose scores are
  // all -inf gives 0 instead of NaN.
  int64_t masked_rows_zero = 0;

  static void fields(auto& self, auto&& visit) {
    visit("heads", self.heads);
    visit("scale", self.scale);
    visit("merged", self.merged);
    visit("masked_rows_zero", self.masked_rows_zero);
  }
};

}  // namespace planck::ops
