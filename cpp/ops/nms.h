#pragma once
#include "ops/declare.h"

namespace planck::ops {

// boxes [batches, n, 4], scores [batches, classes, n], then at most how many boxes a class keeps
// (0 unless given), the overlap above which a box goes, the score that it must exceed. Of each
// class the best boxes, none of which overlaps a better one: rows [batch, class, box].
struct NonMaxSuppression {
  PLANCK_OP_FACTS(NonMaxSuppression, exact, 2, 5)
  int64_t center_point_box = 0;  // 0: [y1,x1,y2,x2], two corners; 1: [x,y,width,height], its middle

  static void fields(auto& self, auto&& visit) { visit("center_point_box", self.center_point_box); }
};

}  // namespace planck::ops
