#include "kernels/qdepthwise/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/eltwise/rows.h"

namespace planck {
namespace {

#define PLANCK_QDEPTHWISE(name, isa) \
  static_assert(std::string_view(#name) == "qdepthwise_u8s8s32_" #isa);
#include "kernels/qdepthwise/kernels.inc"
#undef PLANCK_QDEPTHWISE

int64_t tiles(const QDepthwiseArgs& args) {
  const int64_t lines = checked_mul(args.images, args.rows.out, "rows of windows");
  return checked_mul(lines, ceil_div(args.columns.out, args.places), "rows of windows");
}

void check(const QDepthwiseArgs& args) {
  if (args.requantize && (args.low < 0 || args.low > args.high || args.high > UINT8_MAX)) {
    throw InternalError("bytes from ", args.low, " to ", args.high);
  }
  if (args.columns.kernel > kQDepthwiseTaps) {
    throw InternalError("windows of ", args.columns.kernel, " taps in a row, kernels take ",
                        kQDepthwiseTaps);
  }
  const bool bytes = args.requantize || (args.bytes != nullptr && args.program != nullptr);
  if (bytes == (args.out != nullptr) || (args.requantize && args.program != nullptr)) {
    throw InternalError("a depthwise convolution whose end is not clear");
  }
}

}  // namespace

std::span<const QDepthwiseRow> qdepthwise_rows() {
  static constexpr QDepthwiseRow kRows[] = {
#define PLANCK_QDEPTHWISE(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/qdepthwise/kernels.inc"
#undef PLANCK_QDEPTHWISE
  };
  return kRows;
}

std::vector<float> widened(std::span<const int8_t> weights) {
  return {weights.begin(), weights.end()};
}

int64_t scratch_bytes(const QDepthwiseArgs& args) {
  if (args.out != nullptr || args.requantize) return 0;
  const int64_t floats = checked_mul(args.places, args.channels, "sums");
  return checked_mul(floats, int64_t{sizeof(float)}, "sums");
}

std::vector<int32_t> padding_of(std::span<const int8_t> weights, int64_t channels, uint8_t zero) {
  std::vector<uint32_t> sums(static_cast<size_t>(channels), 0);  // wraps, as kernels do
  for (size_t i = 0; i < weights.size(); ++i) {
    sums[i % sums.size()] += static_cast<uint32_t>(zero * weights[i]);
  }
  return {sums.begin(), sums.end()};
}

void plan_qdepthwise(const QDepthwiseRow& row, QDepthwiseArgs& args) {
  // Much more work than taking a ticket, and few enough outputs to be in L1 when the program reads
  // them.
  constexpr int64_t kSteps = 1 << 18, kFloats = 6144;
  check(args);
  const int64_t channels = std::max<int64_t>(args.channels, 1);
  const int64_t taps = std::max<int64_t>(args.rows.kernel * args.columns.kernel, 1);
  const int64_t floats = args.program != nullptr ? kFloats : kSteps;
  args.places = std::clamp<int64_t>(std::min(kSteps / taps, floats) / channels, 8, 1024);
  args.strip = args.program != nullptr ? eltwise_strip(row.isa) : nullptr;
}

}  // namespace planck
