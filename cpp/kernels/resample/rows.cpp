#include "kernels/resample/rows.h"

#include <algorithm>

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_RESAMPLE(name, isa) static_assert(std::string_view(#name) == "resample_f32_" #isa);
#include "kernels/resample/kernels.inc"
#undef PLANCK_RESAMPLE

int64_t tiles(const ResampleArgs& args) {
  const int64_t lines = checked_mul(args.images, args.rows, "rows of a picture");
  return checked_mul(lines, ceil_div(args.columns, args.places), "rows of a picture");
}

}  // namespace

std::span<const ResampleRow> resample_rows() {
  static constexpr ResampleRow kRows[] = {
#define PLANCK_RESAMPLE(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/resample/kernels.inc"
#undef PLANCK_RESAMPLE
  };
  return kRows;
}

void plan_resample(ResampleArgs& args) {
  constexpr int64_t kSteps = 1 << 15;  // some microseconds of one core
  const int64_t taps = std::max<int64_t>(args.row_taps * args.column_taps, 1);
  const int64_t channels = std::max<int64_t>(args.channels, 1);
  args.places = std::clamp<int64_t>(kSteps / taps / channels, 8, 4096);
}

}  // namespace planck
