#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Extents [start, end) of the input's shape; both count from the back if negative, and clamp.
// In files that include this one, the list of extents is spelled planck::Shape.
struct Shape {
  PLANCK_OP_FACTS(Shape, exact, 1, 1)
  int64_t start = 0;
  int64_t end = INT64_MAX;

  static void fields(auto& self, auto&& visit) {
    visit("start", self.start);
    visit("end", self.end);
  }
};

struct Size {
  PLANCK_OP_FACTS(Size, exact, 1, 1)
  PLANCK_NO_FIELDS
};

}  // namespace planck::ops
