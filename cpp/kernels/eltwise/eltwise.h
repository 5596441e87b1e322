#pragma once
// Tile programs (base/tile_program.h) in compact form, and what runs them. Plain data, so that ISA
// files need nothing else; the compiler is declared in eltwise/rows.h.
#include <cstdint>

#include "kernels/byte_quotient.h"
#include "kernels/job.h"
#include "kernels/simd/planes.h"

namespace planck {

inline constexpr int kEltOperands = 8;    // operands of a program
inline constexpr int kEltInstrs = 48;     // instructions after compilation
inline constexpr int kEltRegisters = 12;  // values that live at the same time, constants included

enum class EltOp : uint8_t {
#define PLANCK_TILE_OP(name, arity) name,
#include "base/tile_ops.inc"
#undef PLANCK_TILE_OP
#define PLANCK_ELT_FUSED(name, first, second, arity) name,
#include "kernels/eltwise/fused.inc"
#undef PLANCK_ELT_FUSED
};

// A source below kEltRegisters is a register; kEltOperandSource + i is operand i.
inline constexpr uint8_t kEltOperandSource = 64;

struct EltInstr {
  EltOp op;       // EltOp::operand copies its source; there is no EltOp::constant
  uint8_t out;    // register; the last instruction writes to memory instead
  uint8_t in[3];  // sources, as many as the op reads
};

struct EltConstant {
  uint8_t reg;  // set once for each strip
  float value;
};

struct EltProgram {
  int32_t operands, instrs, constants;
  EltInstr code[kEltInstrs];
  EltConstant constant[kEltRegisters];
  // Proved where the last instruction is quantize_u8 by constants: of that one.
  ByteQuotient quotient;
};

// How elements lie in memory; programs compute with floats. Integers are read as the float of the
// number (beyond 2^24 rounded), a bool as 0 or, if its byte is not 0, as 1. A whole number is
// stored in bytes with saturation, NaN as the lowest; as a bool, 0 becomes 0 and all else (NaN too)
// 1. s32 is read only.
enum class EltType : uint8_t { f32, b8, u8, s8, s32 };

[[gnu::always_inline]] inline int64_t elt_bytes(EltType type) {
  return type == EltType::f32 || type == EltType::s32 ? 4 : 1;
}

// Element [r, c] is number r * row_stride + c * column_stride of data. column_stride is 0 or 1;
// strides of 0 repeat the operand.
struct EltOperand {
  const void* data;
  int64_t row_stride;
  int64_t column_stride;
  EltType type{};  // f32

  [[gnu::always_inline]] void advance(int64_t elements) {
    data = static_cast<const char*>(data) + elements * elt_bytes(type);
  }
};

// out[r * out_row_stride + c] = program(operands at [r, c]), 0 <= r < rows, 0 <= c < columns.
// out may be the data of an operand that has the same type and strides; no other overlap is
// allowed. Only the named elements are read or written. Any extents work; columns in multiples of
// 16, and 128 or more elements in all, run fastest.
struct EltStrip {
  const EltOperand* operands;  // as many as the program has
  void* out;
  int64_t out_row_stride;
  int64_t rows, columns;
  EltType out_type = EltType::f32;
};

using EltStripFn = void (*)(const EltProgram& program, const EltStrip& strip);

// A step of its own: N-d operands with NumPy broadcasting, already collapsed into planes.
struct EltwiseArgs {
  EltProgram program;
  Planes planes;
  void* out;  // dense
  EltType out_type;
  EltOperand operands[kEltOperands];
  int64_t outer_strides[kEltOperands][kPlanesRank];
};

#define PLANCK_ELTWISE(name, isa)                                  \
  void name(const void* args, int64_t tile, const Worker& worker); \
  void name##_strip(const EltProgram& program, const EltStrip& strip);
#include "kernels/eltwise/kernels.inc"
#undef PLANCK_ELTWISE

}  // namespace planck
