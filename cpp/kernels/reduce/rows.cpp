#include "kernels/reduce/rows.h"

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_REDUCE(name, isa) static_assert(std::string_view(#name) == "reduce_any_128_" #isa);
#include "kernels/reduce/kernels.inc"
#undef PLANCK_REDUCE

int64_t reduce_tiles(const ReduceArgs& args) {
  if (args.sums != nullptr) return args.outer;
  return ceil_div(args.outer, reduce_places(args)) * ceil_div(args.inner, reduce_block(args));
}

}  // namespace

std::span<const ReduceRow> reduce_rows() {
  static constexpr ReduceRow kRows[] = {
#define PLANCK_REDUCE(name, isa) {{#name, Isa::isa, 0, reduce_tiles, name}, name##_parts},
#include "kernels/reduce/kernels.inc"
#undef PLANCK_REDUCE
  };
  return kRows;
}

}  // namespace planck
