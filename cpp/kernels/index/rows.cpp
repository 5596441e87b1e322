#include "kernels/index/rows.h"

#include "base/checked.h"
#include "kernels/index/index_impl.h"
#include "kernels/simd/row_blocks.h"

namespace planck {
namespace {

#define PLANCK_INDEX(name, isa) static_assert(std::string_view(#name) == "index_any_1_" #isa);
#include "kernels/index/kernels.inc"
#undef PLANCK_INDEX

int64_t tiles(const IndexArgs& a) {
  if (a.op == IndexOp::scatter) return a.rows > 0 ? 1 : 0;  // later rows win: their order counts
  const bool hot = a.op == IndexOp::one_hot;
  return ceil_div(hot ? a.rows / a.period : a.rows,
                  rows_of_tile(hot ? a.extents[0] * a.period : a.inner, kIndexTile));
}

}  // namespace

std::span<const IndexRow> index_rows() {
  static constexpr IndexRow kRows[] = {
#define PLANCK_INDEX(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/index/kernels.inc"
#undef PLANCK_INDEX
  };
  return kRows;
}

BadIndex first_bad_index(const IndexArgs& a) {
  const int64_t rows = a.repeat && a.rows > a.block ? a.block : a.rows;
  for (int64_t r = 0; r < rows; ++r) {
    for (int32_t k = 0; k < a.width; ++k) {
      const int64_t index = index_at(a, r * a.width + k);
      if (place_in(index, a.extents[k]) < 0) return {r * a.width + k, index, a.extents[k]};
    }
  }
  return {};
}

}  // namespace planck
