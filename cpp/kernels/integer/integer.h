#pragma once
#include <cstdint>

#include "kernels/job.h"
#include "kernels/simd/planes.h"

namespace planck {

// Same names as plan/plan.h's IntegerKind, which this room may not see.
enum class IntegerOp : uint8_t { add, sub, mul, min, max, equal, less, less_equal, select };

// out = op(operands), element by element, with NumPy broadcasting already collapsed into planes.
// Arithmetic wraps. Comparisons write bools or, where `floats`, 1.0f or 0.0f. select takes bools
// (any byte but 0 is true) and then two branches of any type.
struct IntegerArgs {
  IntegerOp op;
  int32_t bytes;  // of an element: 4 or 8; of a branch: 1, 2, 4 or 8
  bool floats;
  Planes planes;
  void* out;  // dense
  const void* operands[3];
  int64_t rows[3], columns[3];  // steps in elements; those of columns are 0 or 1
  int64_t outer[3][kPlanesRank];
};

#define PLANCK_INTEGER(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/integer/kernels.inc"
#undef PLANCK_INTEGER

}  // namespace planck
