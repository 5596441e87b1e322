#include "kernels/range/rows.h"

#include "base/checked.h"

namespace planck {
namespace {

int64_t range_tiles(const RangeArgs& args) { return ceil_div(args.count, kRangeTile); }

}  // namespace

std::span<const RangeRow> range_rows() {
  static constexpr RangeRow kRows[] = {
#define PLANCK_RANGE(name, isa) {#name, Isa::isa, 0, range_tiles, name},
#include "kernels/range/kernels.inc"
#undef PLANCK_RANGE
  };
  return kRows;
}

}  // namespace planck
