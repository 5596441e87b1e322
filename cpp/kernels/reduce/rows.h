#pragma once
#include "kernels/reduce/reduce.h"
#include "kernels/simd/row.h"

namespace planck {

using ReduceRow = KernelRow<ReduceArgs>;

std::span<const ReduceRow> reduce_rows();
inline const ReduceRow& reduce_row(std::string_view name) {
  return row_of_name(reduce_rows(), name);
}

}  // namespace planck
