#include "kernels/lrn/rows.h"

#include <algorithm>

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_LRN(name, isa) static_assert(std::string_view(#name) == "lrn_f32_" #isa);
#include "kernels/lrn/kernels.inc"
#undef PLANCK_LRN

int64_t tiles(const LrnArgs& args) {
  if (args.channels == 0 || args.inner == 0) return 0;
  if (args.inner == 1) return ceil_div(args.outer, args.block);
  return checked_mul(args.outer, ceil_div(args.inner, args.block), "rows");
}

}  // namespace

std::span<const LrnRow> lrn_rows() {
  static constexpr LrnRow kRows[] = {
#define PLANCK_LRN(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/lrn/kernels.inc"
#undef PLANCK_LRN
  };
  return kRows;
}

void plan_lrn(LrnArgs& args) {
  constexpr int64_t kElements = 1 << 13;  // some microseconds of one core
  const int64_t last = std::max<int64_t>(args.channels - 1, 0);
  args.before = std::min(args.before, last), args.after = std::min(args.after, last);
  const int64_t rows = kElements / std::max<int64_t>(args.channels, 1);
  args.block = args.inner == 1 ? std::clamp<int64_t>(rows, 1, 256)
                               : std::clamp<int64_t>(rows / 64 * 64, 64, 256);
}

// The squares of a row, with zeros around it.
int64_t scratch_bytes(const LrnArgs& args) {
  if (args.inner != 1) return 0;
  const int64_t around = checked_add(checked_add(args.before, args.after), int64_t{16});
  return checked_mul(checked_add(args.channels, around), int64_t{sizeof(float)}, "squares");
}

}  // namespace planck
