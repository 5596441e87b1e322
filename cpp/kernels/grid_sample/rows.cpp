#include "kernels/grid_sample/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/grid_sample/taps.h"

namespace planck {
namespace {

#define PLANCK_GRID_SAMPLE(name, isa) \
  static_assert(std::string_view(#name) == "grid_sample_f32_" #isa);
#include "kernels/grid_sample/kernels.inc"
#undef PLANCK_GRID_SAMPLE

int64_t pieces(const GridSampleArgs& args) {
  return ceil_div(checked_mul(args.out_rows, args.out_columns, "places"), args.places);
}

int64_t tiles(const GridSampleArgs& args) {
  const int64_t blocks = checked_mul(args.images, pieces(args), "places of pictures");
  return checked_mul(blocks, ceil_div(args.channels, args.group), "places of pictures");
}

}  // namespace

std::span<const GridSampleRow> grid_sample_rows() {
  static constexpr GridSampleRow kRows[] = {
#define PLANCK_GRID_SAMPLE(name, isa) {#name, Isa::isa, sizeof(PlaneTaps), tiles, name},
#include "kernels/grid_sample/kernels.inc"
#undef PLANCK_GRID_SAMPLE
  };
  return kRows;
}

void plan_grid_sample(GridSampleArgs& args) {
  const int64_t channels = std::max<int64_t>(args.channels, 1);
  args.group = channels;
  if (!args.planes) {
    constexpr int64_t kSteps = 1 << 13, kCoordinates = 16;  // some microseconds of one core
    args.places = std::clamp<int64_t>(kSteps / (channels + kCoordinates), 8, 512);
    return;
  }
  // A tile computes its taps once for all its channels: as few groups as give work to many workers.
  constexpr int64_t kTiles = 32, kFewest = 8;
  args.places = kGridPlaces;
  const int64_t blocks = std::max<int64_t>(args.images * pieces(args), 1);
  if (blocks >= kTiles) return;
  args.group = std::max(ceil_div(channels, ceil_div(kTiles, blocks)), std::min(kFewest, channels));
}

}  // namespace planck
