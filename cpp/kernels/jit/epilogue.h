#pragma once
// Element-wise programs as straight-line code over one vector of sums: what a generated kernel runs
// on its registers before it stores them.
// Goals: the bits of the interpreted program (eltwise/eltwise_impl.h), since every function is
// spelled with the same operations in the same order as in simd/math.h. Non-goals: every function;
// a program with a rarer one is refused and stays interpreted.
#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/eltwise/eltwise.h"

namespace planck::jit {

enum class LaneOp : uint8_t {
  product,   // the sum that the kernel holds: the first value
  load,      // an operand in memory
  constant,  // not an instruction: read from memory where it is used
  copy,
  add,
  sub,
  mul,
  div,
  min,  // a < b ? a : b
  max,  // a > b ? a : b
  sqrt,
  fma,   // a * b + c
  fnma,  // c - a * b
  bit_and,
  bit_or,
  bit_xor,
  int_add,
  int_sub,
  exponent,  // a << 23
  halve,     // a >> 1, arithmetic
  less,      // comparisons give a mask, which the select right behind them reads
  less_equal,
  equal,
  unordered,
  select,          // mask ? b : c
  select_by_sign,  // sign bit of a ? b : c
};

// How an operand lies over C.
enum class LaneOperand : uint8_t { full, per_row, per_column, scalar };

// In SSA form: a value is named by its index. Constants are read only by copies, as b, and as c of
// fma and fnma.
struct LaneInstr {
  LaneOp op = LaneOp::product;
  uint8_t reg = 0;  // where the result goes: 0 is the register of the sum itself
  int16_t a = 0, b = 0, c = 0;
  uint8_t operand = 0;  // load
  LaneOperand kind = LaneOperand::full;
  uint32_t bits = 0;  // constant
  auto operator<=>(const LaneInstr&) const = default;
};

struct Epilogue {
  std::vector<LaneInstr> code;  // the last result is stored; empty: nothing is done
  int registers = 0;            // that it works in besides the one of the sum
  auto operator<=>(const Epilogue&) const = default;
};

// None where the program has a function that is not generated, an operand that is no float, or
// needs more room than kernels have. Operand 0 is the product; the others lie as `operands` says,
// whose pointers are not read.
std::optional<Epilogue> generated(const EltProgram& program, std::span<const EltOperand> operands);

}  // namespace planck::jit
