#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: scalars start, limit, step; y[i] = start + i step while it stays before limit.
struct Range {
  PLANCK_OP_FACTS(Range, rounding, 3, 3)
  PLANCK_NO_FIELDS
};

}  // namespace planck::ops
