#pragma once
// The GELU by erf in generated code.
#include <xbyak/xbyak.h>

namespace planck::jit {

struct GeluRegisters {
  int sums, spare;  // vector registers [0, sums) hold x; those behind them may be overwritten
  int lanes;        // floats of a vector: 8, or 16 where evex
  bool evex;        // AVX-512's encodings; opmask 7 may be overwritten
};

// Replaces the sums by their GELU; `pointer` is overwritten, and there are two spare registers. The
// instructions are those of simd/math.h's gelu_erf, so the bits are its bits.
void emit_gelu(Xbyak::CodeGenerator& code, const GeluRegisters& registers,
               const Xbyak::Reg64& pointer);

}  // namespace planck::jit
