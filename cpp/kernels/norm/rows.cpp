#include "kernels/norm/rows.h"

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_NORM(name, isa) static_assert(std::string_view(#name) == "layernorm_f32_64_" #isa);
#include "kernels/norm/kernels.inc"
#undef PLANCK_NORM

int64_t tiles(const NormArgs& args) {
  if (args.inner > 0) return args.rows / args.inner * column_blocks(args);
  return ceil_div(args.rows, rows_of_tile(args));
}

}  // namespace

std::span<const NormRow> norm_rows() {
  static constexpr NormRow kRows[] = {
#define PLANCK_NORM(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/norm/kernels.inc"
#undef PLANCK_NORM
  };
  return kRows;
}

}  // namespace planck
