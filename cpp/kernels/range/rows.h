#pragma once
#include "kernels/range/range.h"
#include "kernels/simd/row.h"

namespace planck {

using RangeRow = KernelRow<RangeArgs>;

std::span<const RangeRow> range_rows();
inline const RangeRow& range_row(std::string_view name) { return row_of_name(range_rows(), name); }

}  // namespace planck
