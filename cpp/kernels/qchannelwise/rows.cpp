#include "kernels/qchannelwise/rows.h"

#include <algorithm>

#include "base/checked.h"

namespace planck {
namespace {

#define PLANCK_QCHANNELWISE(name, isa) \
  static_assert(std::string_view(#name) == "qchannelwise_u8_" #isa);
#include "kernels/qchannelwise/kernels.inc"
#undef PLANCK_QCHANNELWISE

int64_t tiles(const QChannelwiseArgs& args) {
  const int64_t lines = checked_mul(args.images, args.rows.out, "rows of windows");
  return checked_mul(lines, ceil_div(args.columns.out, args.places), "rows of windows");
}

}  // namespace

std::span<const QChannelwiseRow> qchannelwise_rows() {
  static constexpr QChannelwiseRow kRows[] = {
#define PLANCK_QCHANNELWISE(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/qchannelwise/kernels.inc"
#undef PLANCK_QCHANNELWISE
  };
  return kRows;
}

void plan_qchannelwise(QChannelwiseArgs& args) {
  constexpr int64_t kSteps = 1 << 19;  // much more work than taking a ticket
  if (args.out == nullptr && (args.low < 0 || args.low > args.high || args.high > UINT8_MAX)) {
    throw InternalError("bytes from ", args.low, " to ", args.high);
  }
  const int64_t channels = std::max<int64_t>(args.channels, 1);
  const int64_t taps = std::max<int64_t>(args.rows.kernel * args.columns.kernel, 1);
  args.places = std::clamp<int64_t>(kSteps / taps / channels, 8, 1024);
}

}  // namespace planck
