#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: data, starts, ends, axes (absent: the first ones), steps (absent: ones). Negative
// starts and ends count from the back; what lies outside clamps.
struct Slice {
  PLANCK_OP_FACTS(Slice, exact, 3, 5)
  PLANCK_NO_FIELDS
};

// Whether a constant end lies behind every extent that a tensor of this type can have along the
// axis: exporters write such numbers for "to the end".
bool is_open_end(const Dim& end, const TensorType& x, int64_t axis);

// A slice with nothing left to clamp: 0 <= start <= end <= extent and step >= 1 on each axis
// listed, axes not negative. A run in which this does not hold is a RunError.
struct Crop {
  PLANCK_OWN_OP_FACTS(Crop, exact, 1, 1)
  std::vector<int64_t> axes;
  std::vector<Dim> starts, ends;
  std::vector<int64_t> steps;

  static void fields(auto& self, auto&& visit) {
    visit("axes", self.axes);
    visit("starts", self.starts);
    visit("ends", self.ends);
    visit("steps", self.steps);
  }
};

}  // namespace planck::ops
