#pragma once
// Products of few columns, which would leave most lanes of a vector of columns empty: lanes are
// rows of A instead, brought there by transposing four columns of A at a time in registers. Sums
// are those of all other kernels: one fused multiply-add for each k, in order.
#include "kernels/jit/gemm.h"

namespace planck {

inline constexpr int kNarrowColumns = 8;  // of a panel of B, [k][kNarrowColumns]

// By how many columns of the panel exist, 1 to kNarrowColumns. A call takes any number of rows and
// knows lines, kLoadC, kRelu and kSigmoid; `tiles` is 1, and rows are not scattered.
const jit::GemmFn* narrow_kernels_avx512();
const jit::GemmFn* narrow_kernels_avx2();

}  // namespace planck
