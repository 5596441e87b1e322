#include "kernels/lut/rows.h"

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_LUT(name, isa)                                     \
  static_assert(std::string_view(#name).starts_with("lut_u8_") && \
                std::string_view(#name).ends_with("_" #isa));
#include "kernels/lut/kernels.inc"
#undef PLANCK_LUT

int64_t tiles(const LutArgs& a) {
  if (a.rows <= 0 || a.columns <= 0) return 0;
  if (a.columns >= kLutTile) return checked_mul(a.rows, ceil_div(a.columns, kLutTile), "tiles");
  return ceil_div(a.rows, kLutTile / a.columns);
}

}  // namespace

std::span<const LutRow> lut_rows() {
  static constexpr LutRow kRows[] = {
#define PLANCK_LUT(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/lut/kernels.inc"
#undef PLANCK_LUT
  };
  return kRows;
}

LutArgs make_lut_args(int64_t rows, int64_t columns, int64_t x_stride, int64_t out_stride) {
  LutArgs args{};
  args.rows = rows;
  args.columns = columns;
  if (x_stride == columns && out_stride == columns) {
    args.rows = 1;
    args.columns = checked_mul(rows, columns, "bytes");
  }
  args.x_stride = x_stride;
  args.out_stride = out_stride;
  args.vbmi = __builtin_cpu_supports("avx512vbmi") != 0;
  return args;
}

}  // namespace planck
