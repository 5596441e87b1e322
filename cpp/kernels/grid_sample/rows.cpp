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
  // A tile works out its taps once for all its channels: where there are too few tiles for many
  // workers, places are cut before channels are.
  constexpr int64_t kTiles = 16, kFewestPlaces = 256, kFewestChannels = 32;
  const int64_t count = std::max<int64_t>(args.out_rows * args.out_columns, 1);
  const int64_t images = std::max<int64_t>(args.images, 1);
  const int64_t cut = std::clamp(ceil_div(kTiles, images), ceil_div(count, kGridPlaces),
                                 ceil_div(count, kFewestPlaces));
  args.places = round_up(ceil_div(count, cut), 16);
  if (images * cut >= kTiles) return;
  const int64_t groups = ceil_div(kTiles, images * cut);
  args.group = std::max(ceil_div(channels, groups), std::min(kFewestChannels, channels));
}

}  // namespace planck
