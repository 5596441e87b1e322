#pragma once
// Convolutions whose windows are read from a band of lines: a tile is some rows of outputs of one
// image, times panels, and no window is copied by itself.
#include "kernels/job.h"
#include "kernels/matmul/rows.h"

namespace planck {

// Once the plan has its tile. One line of outputs: long ones, such as sequences, would not stay in
// L2 and make few tiles; short ones do not fill a register tile. Both are gathered, and so are
// windows with gaps between them.
bool fits_band(const MatmulArgs& args);
Job plan_bands(const MatmulRow& row, MatmulArgs& args);

}  // namespace planck
