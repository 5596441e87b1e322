// From a tile program to EltProgram: check, rewrite constant powers, drop what nobody reads, fuse
// pairs, assign registers.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/eltwise/rows.h"

namespace planck {
namespace {

struct Value {
  EltOp op = EltOp::operand;
  int arity = 0;
  std::array<int, 3> in{};  // indices of values
  int operand = 0;          // of an operand
  float imm = 0;            // of a constant
  int uses = 0;
  bool is_leaf() const { return arity == 0; }
};

void check_instr(const TileProgram& program, size_t at) {
  const TileInstr& instr = program.body[at];
  if (static_cast<size_t>(instr.op) >= std::size(kTileOps)) {
    throw InternalError("tile program: instruction ", at, " has the unknown op ",
                        static_cast<int>(instr.op));
  }
  const TileOpInfo& op = info(instr.op);
  if (instr.op == TileOp::operand &&
      (instr.a < 0 || static_cast<size_t>(instr.a) >= program.operands.size())) {
    throw InternalError("tile program: instruction ", at, " reads operand ", instr.a, " of ",
                        program.operands.size());
  }
  const std::array<int16_t, 3> in = {instr.a, instr.b, instr.c};
  for (int i = 0; i < op.arity; ++i) {
    if (in[i] < 0 || static_cast<size_t>(in[i]) >= at) {
      throw InternalError("tile program: instruction ", at, " (", op.name, ") reads result ",
                          in[i]);
    }
  }
}

void check(const TileProgram& program) {
  if (program.body.empty()) throw InternalError("tile program: no instruction");
  if (program.operands.size() > kEltOperands) {
    throw UnsupportedError("tile program of ", program.operands.size(), " operands: at most ",
                           kEltOperands);
  }
  for (size_t i = 0; i < program.body.size(); ++i) check_instr(program, i);
}

class Values {
 public:
  explicit Values(const TileProgram& program) {
    std::vector<int> of_instr;
    for (const TileInstr& instr : program.body) {
      const std::array<int16_t, 3> in = {instr.a, instr.b, instr.c};
      Value v{static_cast<EltOp>(instr.op), info(instr.op).arity, {}, instr.a, instr.imm, 0};
      for (int i = 0; i < v.arity; ++i) v.in[i] = of_instr[in[i]];
      of_instr.push_back(v.op == EltOp::pow ? power(v) : push(v));
    }
    root = of_instr.back();
    if (all[root].is_leaf()) root = push({EltOp::operand, 1, {root}, 0, 0, 0});  // a copy
    count_uses();
    for (Value& v : all) fuse(v);
  }

  std::vector<Value> all;  // a value reads earlier ones only
  int root = 0;

 private:
  int push(const Value& v) {
    all.push_back(v);
    return static_cast<int>(all.size()) - 1;
  }
  int push(EltOp op, int arity, std::array<int, 3> in) { return push({op, arity, in, 0, 0, 0}); }

  // x^y with a constant y that has an exact form.
  int power(const Value& v) {
    const int x = v.in[0];
    const Value& y = all[v.in[1]];
    if (y.op != EltOp::constant) return push(v);
    if (y.imm == 0.0f) return push({EltOp::constant, 0, {}, 0, 1.0f, 0});
    if (y.imm == 1.0f) return x;
    if (y.imm == 2.0f) return push(EltOp::mul, 2, {x, x});
    if (y.imm == 3.0f) return push(EltOp::mul, 2, {push(EltOp::mul, 2, {x, x}), x});
    if (y.imm == 0.5f) return push(EltOp::sqrt, 1, {x});
    if (y.imm == -1.0f) return push(EltOp::reciprocal, 1, {x});
    return push(v);
  }

  void count_uses() {
    all[root].uses = 1;
    for (size_t i = all.size(); i-- > 0;) {
      if (all[i].uses == 0) continue;
      for (int s = 0; s < all[i].arity; ++s) ++all[all[i].in[s]].uses;
    }
  }

  // Takes in the producer of a source if nobody else reads it and fused.inc has the pair. The
  // second of a pair with two sources commutes.
  void fuse(Value& v) {
    if (v.uses == 0) return;
    for (int s = 0; s < std::min(v.arity, 2); ++s) {
      Value& first = all[v.in[s]];
      const std::optional<EltOp> pair = first.uses == 1 ? fused(first.op, v.op) : std::nullopt;
      if (!pair) continue;
      const int other = v.in[1 - s];
      v = {*pair, v.arity + 1, {first.in[0], first.in[1], other}, 0, 0, v.uses};
      first.uses = 0;
      return;
    }
  }

  static std::optional<EltOp> fused(EltOp a, EltOp b) {
#define PLANCK_ELT_FUSED(name, first, second, arity) \
  if (a == EltOp::first && b == EltOp::second) return EltOp::name;
#include "kernels/eltwise/fused.inc"
#undef PLANCK_ELT_FUSED
    return std::nullopt;
  }
};

class Emitter {
 public:
  Emitter(const Values& values, int operands)
      : all_(values.all), source_(all_.size()), last_(all_.size()) {
    program_.operands = operands;
    for (int i = 0; i <= values.root; ++i) {
      for (int s = 0; s < all_[i].arity && all_[i].uses > 0; ++s) last_[all_[i].in[s]] = i;
    }
    for (int i = 0; i <= values.root; ++i) {
      if (all_[i].uses > 0 && all_[i].is_leaf()) leaf(i);
    }
    for (int i = 0; i <= values.root; ++i) {
      if (all_[i].uses > 0 && !all_[i].is_leaf()) instruction(i);
    }
  }
  const EltProgram& program() const { return program_; }

 private:
  void leaf(int i) {
    if (all_[i].op == EltOp::operand) {
      source_[i] = static_cast<uint8_t>(kEltOperandSource + all_[i].operand);
    } else {
      source_[i] = take();
      program_.constant[program_.constants++] = {source_[i], all_[i].imm};
    }
  }

  void instruction(int i) {
    const Value& v = all_[i];
    if (program_.instrs == kEltInstrs) {
      throw UnsupportedError("tile program of more than ", kEltInstrs, " instructions");
    }
    EltInstr& instr = program_.code[program_.instrs++];
    instr.op = v.op;
    for (int s = 0; s < v.arity; ++s) instr.in[s] = source_[v.in[s]];
    // A source that dies here may be the target: every pass reads before it writes. Constants
    // live as long as the strip.
    for (int s = 0; s < v.arity; ++s) {
      const bool again = std::find(v.in.begin(), v.in.begin() + s, v.in[s]) != v.in.begin() + s;
      if (last_[v.in[s]] == i && !all_[v.in[s]].is_leaf() && !again) {
        busy_[source_[v.in[s]]] = false;
      }
    }
    source_[i] = instr.out = take();
  }

  uint8_t take() {
    for (int r = 0; r < kEltRegisters; ++r) {
      if (busy_[r]) continue;
      busy_[r] = true;
      return static_cast<uint8_t>(r);
    }
    throw UnsupportedError("tile program with more than ", kEltRegisters, " live values");
  }

  const std::vector<Value>& all_;
  std::vector<uint8_t> source_;
  std::vector<int> last_;  // the last reader of a value
  bool busy_[kEltRegisters] = {};
  EltProgram program_{};
};

void find_quotient(const TileProgram& program, EltProgram& out) {
  const TileInstr& last = program.body.back();
  if (last.op != TileOp::quantize_u8) return;
  const TileInstr& scale = program.body[last.b];
  const TileInstr& zero = program.body[last.c];
  if (scale.op != TileOp::constant || zero.op != TileOp::constant) return;
  if (!(zero.imm >= 0 && zero.imm <= UINT8_MAX) || zero.imm != std::nearbyint(zero.imm)) return;
  out.quotient = byte_quotient(scale.imm, static_cast<int32_t>(zero.imm));
}

}  // namespace

EltProgram compile(const TileProgram& program) {
  check(program);
  EltProgram out = Emitter(Values(program), static_cast<int>(program.operands.size())).program();
  find_quotient(program, out);
  return out;
}

}  // namespace planck
