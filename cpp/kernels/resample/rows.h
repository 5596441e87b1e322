#pragma once
#include "kernels/resample/resample.h"
#include "kernels/simd/row.h"

namespace planck {

using ResampleRow = KernelRow<ResampleArgs>;

std::span<const ResampleRow> resample_rows();
inline const ResampleRow& resample_row(std::string_view name) {
  return row_of_name(resample_rows(), name);
}

// Chooses the tiles; called once shapes are set.
void plan_resample(ResampleArgs& args);

}  // namespace planck
