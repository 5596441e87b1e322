#pragma once
#include "kernels/grid_sample/grid_sample.h"
#include "kernels/simd/row.h"

namespace planck {

using GridSampleRow = KernelRow<GridSampleArgs>;

std::span<const GridSampleRow> grid_sample_rows();
inline const GridSampleRow& grid_sample_row(std::string_view name) {
  return row_of_name(grid_sample_rows(), name);
}

// Chooses the tiles; called once shapes are set.
void plan_grid_sample(GridSampleArgs& args);

}  // namespace planck
