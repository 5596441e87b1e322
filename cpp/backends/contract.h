#pragma once
#include "backends/bind.h"

namespace planck {

// What a family of kernels takes for granted, checked with the actual shapes and strides each time
// a binding is made: types, equal extents, rows that lie one stride apart, operands as long as they
// are read. A plan may come from anyone, and symbols that inference took as equal may turn out to
// differ. RunError names the step, what was expected and what came.
void check_contract(const BindContext& context, const Step& step);

}  // namespace planck
