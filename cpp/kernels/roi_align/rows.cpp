#include "kernels/roi_align/rows.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "kernels/roi_align/side.h"

namespace planck {
namespace {

#define PLANCK_ROI_ALIGN(name, isa) static_assert(std::string_view(#name) == "roi_align_f32_" #isa);
#include "kernels/roi_align/kernels.inc"
#undef PLANCK_ROI_ALIGN

int64_t tiles(const RoiAlignArgs& args) {
  const int64_t cells = checked_mul(args.out_rows, args.out_columns, "cells of a region");
  return checked_mul(args.count, ceil_div(cells, args.cells), "cells of regions");
}

}  // namespace

std::span<const RoiAlignRow> roi_align_rows() {
  static constexpr RoiAlignRow kRows[] = {
#define PLANCK_ROI_ALIGN(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/roi_align/kernels.inc"
#undef PLANCK_ROI_ALIGN
  };
  return kRows;
}

void plan_roi_align(RoiAlignArgs& args) {
  constexpr int64_t kSteps = 1 << 17;  // some ten microseconds of one core
  const int64_t samples = args.samples > 0 ? args.samples : 2;
  const int64_t steps = std::max<int64_t>(args.channels, 1) * 4 * samples * samples;
  args.cells = round_up(std::clamp<int64_t>(kSteps / steps, 1, 1024), kRoiCells);
}

int64_t scratch_bytes(const RoiAlignArgs& args) {
  const int64_t taps = checked_add(most_taps(args, args.rows), most_taps(args, args.columns));
  const int64_t lists = checked_mul(taps, int64_t{sizeof(RoiTap)}, "samples of a cell");
  if (!args.planes) return lists;
  const int64_t floats = checked_mul(kRoiCells * int64_t{sizeof(float)}, args.channels, "cells");
  return checked_add(lists, floats);
}

BadRegion first_bad_region(const RoiAlignArgs& args) {
  for (int64_t r = 0; r < args.count; ++r) {
    const int64_t picture = args.pictures[r];
    if (picture < 0 || picture >= args.images) return {r, true};
    const float* at = args.regions + 4 * r;
    for (const int axis : {0, 1}) {
      const double extent = side_of(args, at[axis], at[axis + 2]).extent;
      if (!(std::abs(extent) < kRoiExtent)) return {r, false, extent};
    }
  }
  return {};
}

}  // namespace planck
