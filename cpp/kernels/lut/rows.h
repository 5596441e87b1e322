#pragma once
#include "kernels/lut/lut.h"
#include "kernels/simd/row.h"

namespace planck {

using LutRow = KernelRow<LutArgs>;

std::span<const LutRow> lut_rows();
inline const LutRow& lut_row(std::string_view name) { return row_of_name(lut_rows(), name); }

// Arguments for rows of bytes that lie apart by these strides; pointers stay null. Rows that touch
// are taken as one.
LutArgs make_lut_args(int64_t rows, int64_t columns, int64_t x_stride, int64_t out_stride);

}  // namespace planck
