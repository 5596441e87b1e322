#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Indices count from the back if negative; outside [-extent, extent) is a RunError.
struct Gather {  // y[a.., i.., b..] = data[a.., indices[i..], b..]
  PLANCK_OP_FACTS(Gather, exact, 2, 2)
  int64_t axis = 0;
  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

struct GatherElements {  // y[i..] = data[i.. with indices[i..] in place of i[axis]]
  PLANCK_OP_FACTS(GatherElements, exact, 2, 2)
  int64_t axis = 0;
  static void fields(auto& self, auto&& visit) { visit("axis", self.axis); }
};

struct GatherND {  // the last axis of indices holds the leading coordinates of a slice of data
  PLANCK_OP_FACTS(GatherND, exact, 2, 2)
  int64_t batch_dims = 0;
  static void fields(auto& self, auto&& visit) { visit("batch_dims", self.batch_dims); }
};

}  // namespace planck::ops
