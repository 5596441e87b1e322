#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Coordinates of the elements that are not zero, [rank, how many], in row-major order.
struct NonZero {
  PLANCK_OP_FACTS(NonZero, exact, 1, 1)
  PLANCK_NO_FIELDS
};

}  // namespace planck::ops
