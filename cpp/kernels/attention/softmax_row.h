#pragma once
// The row functions of attention that need an ISA; the products come from kernels/jit. Plain data,
// so that ISA files need nothing else.
#include <cstdint>

namespace planck {

// One row of scores and what is added to it. A mask step of 0 repeats one value.
struct ScoreRow {
  float* scores;  // room for `columns` rounded up to a multiple of 16
  int64_t columns;
  float scale;
  const float* mask;  // or none
  int64_t mask_step;
  bool masked_rows_zero;
};

// Makes the row exp(scale * s + mask - max) in place, max being the largest of scale * s + mask,
// and returns the sum: 0 for a row of -inf only under masked_rows_zero (without it NaN, as the
// formula says) and for a row without columns. Under masked_rows_zero a mask of -inf hides a score
// whatever it is.
using SoftmaxRowFn = float (*)(const ScoreRow& row);

// x[i] *= factor
using ScaleRowFn = void (*)(float* x, int64_t count, float factor);

#define PLANCK_ATTENTION_ISA(isa)                         \
  float attention_softmax_row_##isa(const ScoreRow& row); \
  void attention_scale_row_##isa(float* x, int64_t count, float factor);
PLANCK_ATTENTION_ISA(avx2)
PLANCK_ATTENTION_ISA(avx512)
PLANCK_ATTENTION_ISA(portable)
#undef PLANCK_ATTENTION_ISA

}  // namespace planck
