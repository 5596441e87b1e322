#pragma once
#include "base/dtype.h"
#include "kernels/integer/integer.h"
#include "kernels/simd/row.h"

namespace planck {

using IntegerRow = KernelRow<IntegerArgs>;

std::span<const IntegerRow> integer_rows();
inline const IntegerRow& integer_row(std::string_view name) {
  return row_of_name(integer_rows(), name);
}

// Fills the arguments for dense operands of these shapes, which must broadcast to that of the
// output (rank 32 at most), else InternalError. `bytes` as in IntegerArgs; pointers stay null.
IntegerArgs make_integer_args(IntegerOp op, int bytes, bool floats,
                              std::span<const std::span<const int64_t>> dims,
                              std::span<const int64_t> out_dims);

}  // namespace planck
