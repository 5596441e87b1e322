#pragma once
#include "plan/plan.h"

namespace planck {

// Puts packed weights and what else is small one behind the other, in the order in which steps read
// them, into memory of huge pages: a run that reads each weight once is as fast as memory is, and
// with small pages that is slower. Tensors that have huge pages of their own stay where they are.
void gather_constants(Plan& plan);

}  // namespace planck
