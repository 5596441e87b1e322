#pragma once
#include "kernels/reduce/reduce.h"
#include "kernels/simd/row.h"

namespace planck {

using ReduceRow = KernelRow<ReduceArgs>;

std::span<const ReduceRow> reduce_rows();
inline const ReduceRow& reduce_row(std::string_view name) {
  return row_of_name(reduce_rows(), name);
}

// Inner elements of one tile; the accumulators of a tile stay on the stack.
inline constexpr int64_t kReduceBlock = 128;

}  // namespace planck
