#pragma once
#include "kernels/norm/norm.h"
#include "kernels/simd/row.h"

namespace planck {

using NormRow = KernelRow<NormArgs>;

std::span<const NormRow> norm_rows();
inline const NormRow& norm_row(std::string_view name) { return row_of_name(norm_rows(), name); }

}  // namespace planck
