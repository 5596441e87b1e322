#include "kernels/channelwise/rows.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/channelwise/generated.h"
#include "kernels/eltwise/rows.h"

namespace planck {
namespace {

#define PLANCK_CHANNELWISE(name, isa) \
  static_assert(std::string_view(#name) == "channelwise_f32_" #isa);
#include "kernels/channelwise/kernels.inc"
#undef PLANCK_CHANNELWISE

int64_t tiles(const ChannelwiseArgs& args) {
  const int64_t bands =
      checked_mul(args.images, ceil_div(args.rows.out, args.lines), "rows of windows");
  return checked_mul(bands, ceil_div(args.columns.out, args.places), "rows of windows");
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
  if (args.bytes == nullptr || args.finish != ChannelwiseFinish::program) return 0;
  const int64_t floats = checked_mul(args.places, args.channels, "sums");
  return checked_mul(floats, int64_t{sizeof(float)}, "sums");
}

namespace {

// The constant in that source, if it is one.
const EltConstant* constant_of(const EltProgram& program, uint8_t source) {
  for (int i = 0; i < program.constants; ++i) {
    if (program.constant[i].reg == source) return &program.constant[i];
  }
  return nullptr;
}

// y times a constant plus a constant, where y is what the instruction before gave.
ChannelwiseAffine affine_of(const EltProgram& program, const EltInstr& instr, uint8_t y) {
  if (instr.op != EltOp::mul_add || (instr.in[0] != y && instr.in[1] != y)) return {};
  const EltConstant* scale = constant_of(program, instr.in[0] == y ? instr.in[1] : instr.in[0]);
  const EltConstant* shift = constant_of(program, instr.in[2]);
  if (scale == nullptr || shift == nullptr) return {};
  return {true, scale->value, shift->value};
}

// A chain of at most [affine] function [affine], or one affine alone; then perhaps bytes by the
// program's quotient.
bool is_short(const EltProgram& program, ChannelwiseArgs& args) {
  ChannelwiseAffine before, after;
  ChannelwiseFinish function = ChannelwiseFinish::none;
  uint8_t y = kEltOperandSource;
  const int steps = program.instrs - (program.quotient.proved ? 1 : 0);
  for (int i = 0; i < steps; ++i) {
    const EltInstr& instr = program.code[i];
    const bool first = function == ChannelwiseFinish::none;
    const bool reads = first && instr.in[0] == y;
    if (reads && instr.op == EltOp::relu) {
      function = ChannelwiseFinish::relu;
    } else if (reads && instr.op == EltOp::hard_swish) {
      function = ChannelwiseFinish::hard_swish;
    } else {
      ChannelwiseAffine& place = first ? before : after;
      if (place.used) return false;
      place = affine_of(program, instr, y);
      if (!place.used) return false;
    }
    y = instr.out;
  }
  args.finish = function;
  args.before = before;
  args.after = after;
  args.quantizes = program.quotient.proved;
  return !args.quantizes || program.code[steps].in[0] == y;
}

void need_program(ChannelwiseArgs& args) {
  args.finish = ChannelwiseFinish::program;
  args.before = args.after = {};
  args.quantizes = false;
}

// Bands of a few lines, whose windows share rows: tiles of whole bands where there are enough of
// them. Others stay as they are.
void plan_bands(Isa isa, ChannelwiseArgs& args) {
  constexpr int64_t kEnough = 8;
  if (args.finish != ChannelwiseFinish::program && args.rows.kernel > 1) {
    const int64_t pieces = ceil_div(args.columns.out, args.places);
    const int64_t tiles = args.images * args.rows.out * pieces;
    args.lines = std::clamp<int64_t>(tiles / kEnough, 1, kMostChannelwiseLines);
  }
  generate_channelwise(isa, args);
  if (args.generated == nullptr) args.lines = 1;
}

}  // namespace

void finish_with(ChannelwiseArgs& args, const EltProgram& program) {
  args.program = program;  // also of a short one: who writes other bytes runs it
  if (!is_short(program, args)) need_program(args);
}

void plan_channelwise(const ChannelwiseRow& row, ChannelwiseArgs& args) {
  // Much more work than taking a ticket, and few enough outputs to be in L1 when a program reads
  // them.
  constexpr int64_t kSteps = 1 << 18, kFloats = 6144, kTogether = 8;  // outputs of a kernel
  // Generated kernels write floats.
  const bool floats = !args.quantizes || args.op == ChannelwiseOp::depthwise;
  if (args.bytes != nullptr && floats) need_program(args);
  const int64_t channels = std::max<int64_t>(args.channels, 1);
  const int64_t columns = std::max<int64_t>(args.columns.out, 1);
  int64_t outputs = kSteps / std::max<int64_t>(args.rows.kernel * args.columns.kernel, 1);
  if (args.finish == ChannelwiseFinish::program) outputs = std::min(outputs, kFloats);
  const int64_t most = std::clamp<int64_t>(outputs / channels, kTogether, 1024);
  const int64_t even = ceil_div(columns, ceil_div(columns, most));
  args.places =
      even < columns ? std::min(round_up(even, kTogether), most / kTogether * kTogether) : columns;
  args.lines = 1;
  args.generated = nullptr;
  plan_bands(row.isa, args);
  if (args.finish == ChannelwiseFinish::program) args.strip = eltwise_strip(row.isa);
}

}  // namespace planck
