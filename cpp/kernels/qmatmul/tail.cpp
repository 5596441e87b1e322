#include "kernels/qmatmul/tail.h"

#include <array>
#include <cmath>

#include "base/tile_program.h"

namespace planck {
namespace {

// What a value of the program is, as far as a tail needs it.
struct Known {
  enum class Kind : uint8_t { other, constant, bytes, centred, scaled, chain };
  Kind kind = Kind::other;
  float value = 0;            // of a constant
  float zero = 0, scale = 1;  // (bytes - zero) * scale
  int stage = 0;              // of a chain: how many parts of the tail it may have had
  QmatmulTail tail;           // of a chain
};
using Kind = Known::Kind;
enum Stage : uint8_t {
  kAdded = 1,
  kScaled,
  kShifted,
  kActivated,
  kRescaled,
  kReshifted,
  kQuantized
};
using Affine = QmatmulTail::Affine;

// A part of an affine: in front of what has been met already, or behind it.
Known with_affine(const Known& x, float constant, float Affine::*part, Stage before, Stage after) {
  const bool first = x.stage < before;
  if (!first && x.stage >= after) return {};
  Known out = x;
  Affine& affine = first ? out.tail.before : out.tail.after;
  affine.used = true;
  affine.*part = constant;
  out.stage = first ? before : after;
  return out;
}

Known subtract(const Known& x, const Known& y) {
  if (x.kind != Kind::bytes || y.kind != Kind::constant) return {};
  return {.kind = Kind::centred, .zero = y.value};
}

Known multiply(const Known& x, const Known& y) {
  if (x.kind == Kind::constant && y.kind != Kind::constant) return multiply(y, x);
  if (x.kind == Kind::chain && y.kind == Kind::constant) {
    return with_affine(x, y.value, &Affine::scale, kScaled, kRescaled);
  }
  if ((x.kind != Kind::centred && x.kind != Kind::bytes) || y.kind != Kind::constant) return {};
  return {.kind = Kind::scaled, .zero = x.zero, .scale = y.value};
}

Known add(const Known& x, const Known& y) {
  if (y.kind == Kind::chain && x.kind != Kind::chain) return add(y, x);
  if (x.kind == Kind::chain && y.kind == Kind::constant) {
    return with_affine(x, y.value, &Affine::shift, kShifted, kReshifted);
  }
  if (x.kind != Kind::chain || y.kind != Kind::scaled || x.stage >= kAdded) return {};
  Known out = x;
  out.stage = kAdded;
  out.tail.residual = true;
  out.tail.residual_zero = y.zero;
  out.tail.residual_scale = y.scale;
  return out;
}

Known activate(const Known& x, bool QmatmulTail::*which) {
  if (x.kind != Kind::chain || x.stage >= kActivated) return {};
  Known out = x;
  out.stage = kActivated;
  out.tail.*which = true;
  return out;
}

Known quantize(const Known& x, const Known& scale, const Known& zero) {
  const bool constants = scale.kind == Kind::constant && zero.kind == Kind::constant;
  if (x.kind != Kind::chain || x.stage >= kQuantized || !constants) return {};
  if (zero.value < 0 || zero.value > 255 || zero.value != std::nearbyint(zero.value)) return {};
  Known out = x;
  out.stage = kQuantized;
  out.tail.quantize = true;
  out.tail.scale = scale.value;
  out.tail.zero = zero.value;
  return out;
}

Known apply(EltOp op, const std::array<Known, 3>& in) {
  switch (op) {
    case EltOp::operand:
      return in[0];
    case EltOp::sub:
      return subtract(in[0], in[1]);
    case EltOp::mul:
      return multiply(in[0], in[1]);
    case EltOp::add:
      return add(in[0], in[1]);
    case EltOp::relu:
      return activate(in[0], &QmatmulTail::relu);
    case EltOp::gelu_erf:
      return activate(in[0], &QmatmulTail::gelu);
    case EltOp::hard_swish:
      return activate(in[0], &QmatmulTail::hard_swish);
    case EltOp::quantize_u8:
      return quantize(in[0], in[1], in[2]);
    default:
      return {};
  }
}

// Pairs that run as one instruction are what they were before.
struct Pair {
  EltOp both, first, second;
};
constexpr Pair kPairs[] = {
#define PLANCK_ELT_FUSED(name, first, second, arity) {EltOp::name, EltOp::first, EltOp::second},
#include "kernels/eltwise/fused.inc"
#undef PLANCK_ELT_FUSED
};

Known apply_any(EltOp op, const std::array<Known, 3>& in) {
  for (const Pair& pair : kPairs) {
    if (pair.both != op) continue;
    const bool binary = kTileOps[static_cast<size_t>(pair.first)].arity == 2;
    return apply(pair.second, {apply(pair.first, in), in[binary ? 2 : 1], {}});
  }
  return apply(op, in);
}

}  // namespace

std::optional<QmatmulTail> tail_of(const EltProgram& program) {
  std::array<Known, kEltRegisters> registers;
  for (int i = 0; i < program.constants; ++i) {
    registers[program.constant[i].reg] = {.kind = Kind::constant,
                                          .value = program.constant[i].value};
  }
  const auto source = [&](uint8_t at) -> Known {
    if (at < kEltRegisters) return registers[at];
    if (at == kEltOperandSource) return {.kind = Kind::chain};
    return {.kind = at == kEltOperandSource + 1 ? Kind::bytes : Kind::other};
  };
  Known last;
  for (int i = 0; i < program.instrs; ++i) {
    const EltInstr& instr = program.code[i];
    // Sources that an op does not have are 0: a register, of whatever kind.
    last = apply_any(instr.op, {source(instr.in[0]), source(instr.in[1]), source(instr.in[2])});
    registers[instr.out] = last;
  }
  if (last.kind != Kind::chain) return std::nullopt;
  return last.tail;
}

}  // namespace planck
