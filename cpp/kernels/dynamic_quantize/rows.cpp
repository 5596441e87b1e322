#include "kernels/dynamic_quantize/rows.h"

#include <algorithm>

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_DYNAMIC_QUANTIZE(name, isa) \
  static_assert(std::string_view(#name) == "dynamic_quantize_f32_16_" #isa);
#include "kernels/dynamic_quantize/kernels.inc"
#undef PLANCK_DYNAMIC_QUANTIZE

constexpr int64_t kLeastPart = 16384;  // far above a ticket's cost

int64_t tiles(const DynamicQuantizeArgs& args) { return args.parts; }

}  // namespace

std::span<const DynamicQuantizeRow> dynamic_quantize_rows() {
  static constexpr DynamicQuantizeRow kRows[] = {
#define PLANCK_DYNAMIC_QUANTIZE(name, isa) {{#name, Isa::isa, 0, tiles, name}, name##_range},
#include "kernels/dynamic_quantize/kernels.inc"
#undef PLANCK_DYNAMIC_QUANTIZE
  };
  return kRows;
}

DynamicQuantizeArgs make_dynamic_quantize_args(int64_t count) {
  DynamicQuantizeArgs args{};
  args.count = count;
  args.part = std::max(kLeastPart, round_up(ceil_div(count, kQuantizeParts), 64));
  args.parts = std::max<int64_t>(1, ceil_div(count, args.part));
  return args;
}

}  // namespace planck
