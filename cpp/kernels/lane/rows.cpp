#include "kernels/lane/rows.h"

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_LANE(name, isa) static_assert(std::string_view(#name) == "lane_any_64_" #isa);
#include "kernels/lane/kernels.inc"
#undef PLANCK_LANE

int64_t tiles(const LaneArgs& a) { return a.outer * ceil_div(a.inner, kLaneBlock); }

}  // namespace

std::span<const LaneRow> lane_rows() {
  static constexpr LaneRow kRows[] = {
#define PLANCK_LANE(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/lane/kernels.inc"
#undef PLANCK_LANE
  };
  return kRows;
}

int64_t scratch_bytes(const LaneArgs& a) {
  return a.op == LaneOp::top ? checked_mul(a.count, int64_t{sizeof(int64_t)}, "lane") : 0;
}

}  // namespace planck
