#pragma once
#include "ir/op_def.h"

namespace planck {

// Every op of ops.inc.
const OpTable& builtin_ops();

}  // namespace planck
