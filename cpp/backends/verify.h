#pragma once
#include "plan/plan.h"

namespace planck {

// The meaning of a plan that came from a file: every id in its range, every value written before it
// is read, views and ports that fit their buffers' types, known kernels, weights packed as their
// kernels take them, programs that compile. What depends on shapes is checked when a binding is
// made (backends/contract.h, runtime/memory.h). CorruptError says what is wrong.
void verify_plan(const Plan& plan);

// Empty if every kernel of the plan runs on this machine, else the first that does not and why.
std::string why_not_here(const Plan& plan);

}  // namespace planck
