#include "kernels/byte_pool/rows.h"

#include <algorithm>

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_BYTE_POOL(name, isa)                                      \
  static_assert(std::string_view(#name).starts_with("byte_pool_max_") && \
                std::string_view(#name).ends_with("_" #isa));
#include "kernels/byte_pool/kernels.inc"
#undef PLANCK_BYTE_POOL

int64_t tiles(const BytePoolArgs& args) {
  const int64_t lines = checked_mul(args.images, args.rows.out, "rows of windows");
  return checked_mul(lines, ceil_div(args.columns.out, args.places), "rows of windows");
}

}  // namespace

std::span<const BytePoolRow> byte_pool_rows() {
  static constexpr BytePoolRow kRows[] = {
#define PLANCK_BYTE_POOL(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/byte_pool/kernels.inc"
#undef PLANCK_BYTE_POOL
  };
  return kRows;
}

void plan_byte_pool(BytePoolArgs& args) {
  constexpr int64_t kSteps = 1 << 18;  // bytes read: much more work than taking a ticket
  const int64_t channels = std::max<int64_t>(args.channels, 1);
  const int64_t taps = std::max<int64_t>(args.rows.kernel * args.columns.kernel, 1);
  args.places = std::clamp<int64_t>(kSteps / taps / channels, 8, 1024);
}

}  // namespace planck
