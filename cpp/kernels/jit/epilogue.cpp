#include "kernels/jit/epilogue.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "kernels/simd/coefficients.h"
#include "kernels/simd/gelu_root.h"

namespace planck::jit {
namespace {

constexpr int kNone = -1;
// So that two dozen sums of it fit a kernel's code, and that the masks of its columns fit besides
// its values.
constexpr size_t kMaxInstrs = 128;
constexpr int kMaxRegisters = 12;

// Writes instructions; every function returns the value of its result.
class Writer {
 public:
  std::vector<LaneInstr> code{LaneInstr{}};

  int constant_bits(uint32_t bits) {
    for (size_t i = 0; i < code.size(); ++i) {
      if (code[i].op == LaneOp::constant && code[i].bits == bits) return static_cast<int>(i);
    }
    return push({.op = LaneOp::constant, .bits = bits});
  }
  int constant(float value) { return constant_bits(std::bit_cast<uint32_t>(value)); }
  int load(int operand, LaneOperand kind) {
    return push({.op = LaneOp::load, .operand = static_cast<uint8_t>(operand), .kind = kind});
  }
  int copy(int a) { return make(LaneOp::copy, a); }

  int add(int a, int b) { return make(LaneOp::add, in_register(a), b); }
  int sub(int a, int b) { return make(LaneOp::sub, in_register(a), b); }
  int mul(int a, int b) { return make(LaneOp::mul, in_register(a), b); }
  int div(int a, int b) { return make(LaneOp::div, in_register(a), b); }
  int min(int a, int b) { return make(LaneOp::min, in_register(a), b); }
  int max(int a, int b) { return make(LaneOp::max, in_register(a), b); }
  int fma(int a, int b, int c) { return make(LaneOp::fma, in_register(a), in_register(b), c); }
  int fnma(int a, int b, int c) { return make(LaneOp::fnma, in_register(a), in_register(b), c); }
  int compare(LaneOp how, int a, int b) { return make(how, in_register(a), b); }
  int select(int mask, int yes, int no) { return make(LaneOp::select, mask, yes, no); }
  int unary(LaneOp op, int a) { return make(op, in_register(a)); }
  int bits_and(int a, uint32_t bits) {
    return make(LaneOp::bit_and, in_register(a), constant_bits(bits));
  }
  int select_by_sign(int sign, int yes, int no) {
    return make(LaneOp::select_by_sign, sign, yes, in_register(no));
  }

  int in_register(int value) {
    return code[static_cast<size_t>(value)].op == LaneOp::constant ? copy(value) : value;
  }

  // --- simd/math.h, function by function

  int neg(int x) { return make(LaneOp::bit_xor, in_register(x), constant_bits(kSign)); }
  int abs(int x) { return bits_and(x, kSign - 1); }
  int min_nan(int x, int y) { return unless_nan(x, y, LaneOp::min); }
  int max_nan(int x, int y) { return unless_nan(x, y, LaneOp::max); }
  int relu(int x) { return max(constant(0), x); }
  int truth(int mask) { return select(mask, constant(1), in_register(constant(0))); }
  int exp(int x) { return exp_clamped(max(constant(kExpLow), min(constant(kExpHigh), x))); }
  int sigmoid(int x) { return sigmoid_by(x, exp(neg(abs(x)))); }
  int swish(int x) {
    x = in_register(x);
    return mul(x, sigmoid_by(x, exp_flush(neg(abs(x)))));
  }
  int sigmoid_by(int x, int e) {
    const int one = in_register(constant(1));
    const int top = select(compare(LaneOp::less, x, constant(0)), e, one);
    return div(top, add(e, constant(1)));
  }
  int hard_swish(int x) {
    const int ramp = fma(x, constant(1.0F / 6), constant(0.5F));
    return mul(x, min(constant(1), max(constant(0), ramp)));
  }
  int tanh(int x) {
    const int square = mul(x, x);
    const int small = fma(mul(polynomial(kTanhSmall, square), square), x, x);
    const int magnitude = abs(x);
    const int twice = min(constant(kExpBeyondOne), add(magnitude, magnitude));
    const int grown = add(exp_clamped(twice), constant(1));
    const int large = sub(constant(1), div(constant(2), grown));
    const int signed_large = make(LaneOp::bit_or, bits_and(x, kSign), large);
    return select(compare(LaneOp::less, magnitude, constant(kTanhSmallEnd)), small, signed_large);
  }
  int gelu_erf(int x) {
    int tail = max(constant(0), polynomial(kGeluRoot, min(constant(kGeluEnd), abs(x))));
    for (int squaring = 0; squaring < 3; ++squaring) tail = mul(tail, tail);
    return mul(x, select_by_sign(x, tail, sub(constant(1), tail)));
  }
  int gelu_tanh(int x) {
    const int scale = fma(mul(x, x), constant(kGeluTanhSquare), constant(kGeluTanhOne));
    const int power = max(constant(kExpBesideOne), min(constant(kExpHigh), mul(scale, x)));
    return div(x, add(exp_clamped(power), constant(1)));
  }

 private:
  static constexpr uint32_t kSign = 0x80000000;

  int push(const LaneInstr& instr) {
    code.push_back(instr);
    return static_cast<int>(code.size()) - 1;
  }
  int make(LaneOp op, int a, int b = kNone, int c = kNone) {
    return push({.op = op,
                 .a = static_cast<int16_t>(a),
                 .b = static_cast<int16_t>(b),
                 .c = static_cast<int16_t>(c)});
  }

  int unless_nan(int x, int y, LaneOp op) {
    x = in_register(x);
    const int other = make(op, x, y);
    return select(compare(LaneOp::unordered, x, x), x, other);
  }
  // Horner's rule.
  template <int kCount>
  int polynomial(const float (&c)[kCount], int x) {
    int sum = constant(c[kCount - 1]);
    for (int i = kCount - 2; i >= 0; --i) sum = fma(sum, x, constant(c[i]));
    return sum;
  }
  // For x <= 0.
  int exp_flush(int x) {
    x = max(constant(-88), x);
    const int shifted = fma(x, constant(kLog2E), constant(kRound));
    const int n = sub(shifted, constant(kRound));
    const int r = fnma(n, constant(kLn2Rest), fnma(n, constant(kLn2), x));
    const int power = make(LaneOp::int_sub, shifted, constant(kRound));
    const int scale = make(LaneOp::exponent, make(LaneOp::int_add, power, constant_bits(127)));
    return fma(fma(polynomial(kExpTail, r), mul(r, r), r), scale, scale);
  }
  // Without a rest: adding 0 to r changes no result.
  int exp_clamped(int x) {
    const int shifted = fma(x, constant(kLog2E), constant(kRound));
    const int n = sub(shifted, constant(kRound));
    const int r = fnma(n, constant(kLn2Rest), fnma(n, constant(kLn2), x));
    const int e = add(fma(polynomial(kExpTail, r), mul(r, r), r), constant(1));
    const int power = make(LaneOp::int_sub, shifted, constant(kRound));
    const int half = make(LaneOp::halve, power);
    const int bias = constant_bits(127);
    const int first = make(LaneOp::exponent, make(LaneOp::int_add, half, bias));
    const int rest = make(LaneOp::int_sub, power, half);
    const int second = make(LaneOp::exponent, make(LaneOp::int_add, rest, bias));
    return mul(mul(e, first), second);
  }
};

bool is_float(const EltOperand& operand) { return operand.type == EltType::f32; }

LaneOperand kind_of(const EltOperand& operand) {
  if (operand.column_stride == 0) {
    return operand.row_stride == 0 ? LaneOperand::scalar : LaneOperand::per_row;
  }
  return operand.row_stride == 0 ? LaneOperand::per_column : LaneOperand::full;
}

// Reads an EltProgram in order; kNone where it has something that is not generated.
class Translator {
 public:
  Translator(const EltProgram& program, std::span<const EltOperand> operands)
      : program_(program), operands_(operands) {}

  std::vector<LaneInstr> run() {
    for (int i = 0; i < program_.constants; ++i) {
      registers_[program_.constant[i].reg] = w_.constant(program_.constant[i].value);
    }
    for (int i = 0; i < program_.instrs; ++i) {
      const EltInstr& instr = program_.code[i];
      // Registers that the op does not read may be stale: only its own sources are looked up.
      const Sources in{this, instr.in};
      const int value = apply(instr.op, in);
      if (value == kNone) return {};
      registers_[instr.out] = value;
      if (i + 1 == program_.instrs) finish(value);
    }
    return std::move(w_.code);
  }

 private:
  struct Sources {
    Translator* translator;
    const uint8_t* in;
    int operator[](int i) const { return translator->source(in[i]); }
  };

  int source(uint8_t from) {
    if (from < kEltOperandSource) return registers_[from];
    const int operand = from - kEltOperandSource;
    return operand == 0 ? 0 : w_.load(operand, kind_of(operands_[static_cast<size_t>(operand)]));
  }

  // The stored value is the last instruction, and no constant.
  void finish(int value) {
    value = w_.in_register(value);
    if (static_cast<size_t>(value) + 1 != w_.code.size()) w_.copy(value);
  }

  int apply(EltOp op, const Sources& in) {
    switch (op) {
      case EltOp::operand:
        return w_.copy(in[0]);
      case EltOp::add_relu:
        return w_.relu(apply(EltOp::add, in));
      case EltOp::add_gelu_erf:
        return w_.gelu_erf(apply(EltOp::add, in));
      case EltOp::add_gelu_tanh:
        return w_.gelu_tanh(apply(EltOp::add, in));
      case EltOp::add_tanh:
        return w_.tanh(apply(EltOp::add, in));
      case EltOp::add_add:
        return with_third(apply(EltOp::add, in), in);
      case EltOp::mul_add:
        return with_third(apply(EltOp::mul, in), in);
      case EltOp::sub_mul:
        return w_.mul(apply(EltOp::sub, in), in[2]);
      default:
        break;
    }
    const int x = in[0];
    const int one = unary(op, x);
    return one != kNone ? one : several(op, x, in);
  }

  int with_third(int first, const Sources& in) { return w_.add(first, in[2]); }

  int unary(EltOp op, int x) {
    switch (op) {
      case EltOp::neg:
        return w_.neg(x);
      case EltOp::abs:
        return w_.abs(x);
      case EltOp::sqrt:
        return w_.unary(LaneOp::sqrt, x);
      case EltOp::reciprocal:
        return w_.div(w_.constant(1), x);
      case EltOp::exp:
        return w_.exp(x);
      case EltOp::tanh:
        return w_.tanh(w_.in_register(x));
      case EltOp::sigmoid:
        return w_.sigmoid(x);
      case EltOp::relu:
        return w_.relu(x);
      case EltOp::gelu_erf:
        return w_.gelu_erf(w_.in_register(x));
      case EltOp::gelu_tanh:
        return w_.gelu_tanh(x);
      case EltOp::swish:
        return w_.swish(x);
      case EltOp::hard_swish:
        return w_.hard_swish(x);
      default:
        return kNone;
    }
  }

  int several(EltOp op, int x, const Sources& in) {
    switch (op) {
      case EltOp::add:
        return w_.add(x, in[1]);
      case EltOp::sub:
        return w_.sub(x, in[1]);
      case EltOp::mul:
        return w_.mul(x, in[1]);
      case EltOp::div:
        return w_.div(x, in[1]);
      case EltOp::min:
        return w_.min_nan(x, in[1]);
      case EltOp::max:
        return w_.max_nan(x, in[1]);
      case EltOp::equal:
        return w_.truth(w_.compare(LaneOp::equal, x, in[1]));
      case EltOp::less:
        return w_.truth(w_.compare(LaneOp::less, x, in[1]));
      case EltOp::less_equal:
        return w_.truth(w_.compare(LaneOp::less_equal, x, in[1]));
      case EltOp::select: {
        const int y = w_.in_register(in[1]), z = in[2];
        return w_.select(w_.compare(LaneOp::equal, x, w_.constant(0)), z, y);
      }
      default:
        return kNone;
    }
  }

  const EltProgram& program_;
  std::span<const EltOperand> operands_;
  Writer w_;
  int registers_[kEltRegisters] = {};
};

// Gives every value a register from its instruction to its last reader; 0 is the product's. The
// last result goes to 0, whose value nobody reads any more.
class Registers {
 public:
  static int assign(std::vector<LaneInstr>& code) { return Registers(code).used_; }

 private:
  explicit Registers(std::vector<LaneInstr>& code) : code_(code), last_(code.size(), 0) {
    for (size_t i = 1; i < code.size(); ++i) {
      for (const int16_t from : {code[i].a, code[i].b, code[i].c}) {
        if (reads(code[i]) && from >= 0) last_[static_cast<size_t>(from)] = i;
      }
    }
    busy_.resize(1, last_[0] > 0);
    for (size_t i = 1; i < code.size(); ++i) {
      if (code[i].op != LaneOp::constant) place(i);
    }
  }

  static bool reads(const LaneInstr& instr) {
    return instr.op > LaneOp::constant;  // what comes first has no sources
  }
  bool holds_register(int16_t value) const {
    return value >= 0 && code_[static_cast<size_t>(value)].op != LaneOp::constant;
  }

  void place(size_t i) {
    LaneInstr& instr = code_[i];
    int heir = kNone;  // a register that falls free here: fma then needs no copy
    if (reads(instr)) {
      for (const int16_t from : {instr.a, instr.b, instr.c}) {
        if (!holds_register(from) || last_[static_cast<size_t>(from)] != i) continue;
        const uint8_t reg = code_[static_cast<size_t>(from)].reg;
        busy_[reg] = false;
        if (heir == kNone) heir = reg;
      }
    }
    if (i + 1 == code_.size()) {
      heir = 0;
    } else if (heir == kNone) {
      heir = static_cast<int>(std::ranges::find(busy_, false) - busy_.begin());
    }
    if (static_cast<size_t>(heir) == busy_.size()) busy_.push_back(false);
    busy_[static_cast<size_t>(heir)] = true;
    instr.reg = static_cast<uint8_t>(heir);
    used_ = std::max(used_, heir);
  }

  std::vector<LaneInstr>& code_;
  std::vector<size_t> last_;
  std::vector<bool> busy_;
  int used_ = 0;
};

}  // namespace

std::optional<Epilogue> generated(const EltProgram& program, std::span<const EltOperand> operands) {
  for (int i = 1; i < program.operands; ++i) {
    if (!is_float(operands[static_cast<size_t>(i)])) return std::nullopt;
  }
  Epilogue epilogue{Translator(program, operands).run(), 0};
  if (epilogue.code.empty() || epilogue.code.size() > kMaxInstrs) return std::nullopt;
  epilogue.registers = Registers::assign(epilogue.code);
  if (epilogue.registers > kMaxRegisters) return std::nullopt;
  return epilogue;
}

}  // namespace planck::jit
