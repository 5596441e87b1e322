#pragma once
#include "kernels/simd/row.h"
#include "kernels/softmax/softmax.h"

namespace planck {

using SoftmaxRow = KernelRow<SoftmaxArgs>;

std::span<const SoftmaxRow> softmax_rows();
inline const SoftmaxRow& softmax_row(std::string_view name) {
  return row_of_name(softmax_rows(), name);
}

}  // namespace planck
