#include "kernels/channelwise/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/eltwise/rows.h"

namespace planck {
namespace {

#define PLANCK_CHANNELWISE(name, isa) \
  static_assert(std::string_view(#name) == "channelwise_f32_" #isa);
#include "kernels/channelwise/kernels.inc"
#undef PLANCK_CHANNELWISE

int64_t tiles(const ChannelwiseArgs& args) {
  const int64_t lines = checked_mul(args.images, args.rows.out, "rows of windows");
  return checked_mul(lines, ceil_div(args.columns.out, args.places), "rows of windows");
}

}  // namespace

std::span<const ChannelwiseRow> channelwise_rows() {
  static constexpr ChannelwiseRow kRows[] = {
#define PLANCK_CHANNELWISE(name, isa) {#name, Isa::isa, 0, tiles, name},
#include "kernels/channelwise/kernels.inc"
#undef PLANCK_CHANNELWISE
  };
  return kRows;
}

int64_t scratch_bytes(const ChannelwiseArgs& args) {
  if (args.bytes == nullptr) return 0;
  const int64_t floats = checked_mul(args.places, args.channels, "sums");
  return checked_mul(floats, int64_t{sizeof(float)}, "sums");
}

void finish_with(ChannelwiseArgs& args, const EltProgram& program) {
  args.program = program;
  args.finish = is_only(program, EltOp::relu)         ? ChannelwiseFinish::relu
                : is_only(program, EltOp::hard_swish) ? ChannelwiseFinish::hard_swish
                                                      : ChannelwiseFinish::program;
}

void plan_channelwise(const ChannelwiseRow& row, ChannelwiseArgs& args) {
  // Much more work than taking a ticket, and few enough outputs to be in L1 when the program reads
  // them.
  constexpr int64_t kSteps = 1 << 18, kFloats = 6144;
  const int64_t channels = std::max<int64_t>(args.channels, 1);
  const int64_t taps = std::max<int64_t>(args.rows.kernel * args.columns.kernel, 1);
  args.places = std::clamp<int64_t>(std::min(kSteps / taps, kFloats) / channels, 8, 1024);
  if (args.bytes != nullptr) args.finish = ChannelwiseFinish::program;
  if (args.finish == ChannelwiseFinish::program) args.strip = eltwise_strip(row.isa);
}

}  // namespace planck
