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

// Rows of a mask, and what no scaled score of these rows exceeds in magnitude.
struct MaskRows {
  const float* mask;
  int64_t rows, stride, columns;
  float bound;
};

// live[g] = 1 where a key of the g-th sixteen may get a probability that is not 0 in one of the
// rows; returns how many of them were 0 before. -inf always hides a key, and any other mask does
// that is so far below the row's largest that no score of at most `bound` makes up for it:
// exp_flush gives 0 there.
using MarkKeysFn = int64_t (*)(const MaskRows& mask, uint8_t* live);

// The largest magnitude in rows of a matrix; inf where a number is not finite.
using LargestFn = float (*)(const float* x, int64_t rows, int64_t stride, int64_t columns);

#define PLANCK_ATTENTION_ISA(isa)                                         \
  float attention_softmax_row_##isa(const ScoreRow& row);                 \
  void attention_scale_row_##isa(float* x, int64_t count, float factor);  \
  int64_t attention_mark_keys_##isa(const MaskRows& mask, uint8_t* live); \
  float attention_largest_##isa(const float* x, int64_t rows, int64_t stride, int64_t columns);
PLANCK_ATTENTION_ISA(avx2)
PLANCK_ATTENTION_ISA(avx512)
PLANCK_ATTENTION_ISA(portable)
#undef PLANCK_ATTENTION_ISA

}  // namespace planck
