#pragma once
// Layer normalization of wide tensors, shared by the ops that end in one.
#include "ops/support.h"

namespace planck {

struct Normalized {
  Wide y, mean, inverse;  // mean and 1 / standard deviation have extent 1 on the axes from `axis`
};
// gain and bias broadcast to x; bias may be null.
Normalized normalize(const Wide& x, int64_t axis, double epsilon, const Wide& gain,
                     const Wide* bias);

// Checks of inference: input i is like x and broadcasts to it without widening it.
void need_affine(std::string_view op, const Inference& call, size_t i, DType dtype,
                 const std::vector<Dim>& x);

}  // namespace planck
