#include "kernels/softmax/rows.h"

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_SOFTMAX(name, isa) static_assert(std::string_view(#name) == "softmax_f32_64_" #isa);
#include "kernels/softmax/kernels.inc"
#undef PLANCK_SOFTMAX

int64_t tiles(const SoftmaxArgs& args) {
  return ceil_div(args.rows, rows_of_tile(args.n, kSoftmaxTile));
}

}  // namespace

std::span<const SoftmaxRow> softmax_rows() {
  static constexpr SoftmaxRow kRows[] = {
#define PLANCK_SOFTMAX(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/softmax/kernels.inc"
#undef PLANCK_SOFTMAX
  };
  return kRows;
}

}  // namespace planck
