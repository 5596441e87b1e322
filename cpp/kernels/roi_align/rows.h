#pragma once
#include "kernels/roi_align/roi_align.h"
#include "kernels/simd/row.h"

namespace planck {

using RoiAlignRow = KernelRow<RoiAlignArgs>;

std::span<const RoiAlignRow> roi_align_rows();
inline const RoiAlignRow& roi_align_row(std::string_view name) {
  return row_of_name(roi_align_rows(), name);
}

// Chooses the tiles; called once shapes are set.
void plan_roi_align(RoiAlignArgs& args);
// Of each worker.
int64_t scratch_bytes(const RoiAlignArgs& args);

// The first region that no kernel may see, for the check at the door before anything runs.
struct BadRegion {
  int64_t region = -1;   // -1: all are good
  bool outside = false;  // its picture is; else it is too large, or not a number
  double extent = 0;
};
BadRegion first_bad_region(const RoiAlignArgs& args);

}  // namespace planck
