#pragma once
// How far a tensor is from its reference, as sums that add up over samples.
#include <cstdint>

#include "base/tensor.h"

namespace planck {

struct ErrorSums {
  int64_t count = 0;      // elements compared
  double reference2 = 0;  // sum of squares of the reference
  double actual2 = 0;     // of the result
  double error2 = 0;      // of the difference
  double dot = 0;         // reference x result
  double max_abs = 0;     // largest difference
  double reference_max = 0;
  double median_relative = 0;  // |difference| / |reference|, over at most 65,536 even samples
  int64_t argmax_rows = 0, argmax_equal = 0;  // rows along the last axis
  int64_t misplaced = 0;  // NaN or infinity in one and not, or another, in the other
  int64_t unequal = 0;    // elements that differ at all
  static void fields(auto& s, auto& visit) {
    visit("count", s.count);
    visit("reference2", s.reference2);
    visit("actual2", s.actual2);
    visit("error2", s.error2);
    visit("dot", s.dot);
    visit("max_abs", s.max_abs);
    visit("reference_max", s.reference_max);
    visit("median_relative", s.median_relative);
    visit("argmax_rows", s.argmax_rows);
    visit("argmax_equal", s.argmax_equal);
    visit("misplaced", s.misplaced);
    visit("unequal", s.unequal);
  }
};

// Positions where both hold the same NaN or infinity agree and enter no sum.
ErrorSums compare(const Wide& reference, const Tensor& actual);

}  // namespace planck
