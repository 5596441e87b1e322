#pragma once
#include "ir/op_def.h"

namespace planck {

// The one door to a reference: checks the number of inputs and outputs and the size of inputs, runs
// it, wraps integers to their types and checks that every output was set.
void evaluate(const OpDef& op, const void* attrs, Evaluation& call);

}  // namespace planck
