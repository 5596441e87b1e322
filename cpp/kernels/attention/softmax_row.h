#pragma once
// What of attention needs an ISA, but for the products, which come from kernels/jit: operands are
// packed, scores become probabilities, results are scaled. Plain data, so that ISA files need
// nothing else.
#include <cstdint>

namespace planck {

// Keys or values of one head as rows of a matrix.
struct HeadRows {
  const float* first;
  int64_t rows, stride, columns;
};

// Panels of [columns][width] that hold scale * rows turned, zeros where rows end: the rows' places
// are next to each other. width is a multiple of 16.
using PackKeysFn = void (*)(const HeadRows& keys, float scale, int64_t width, float* packed);

// Panels of [rows][width] that lie panel_stride floats apart, zeros where columns end.
using PackValuesFn = void (*)(const HeadRows& values, int64_t width, int64_t panel_stride,
                              float* packed);

// Rows of scores and what is added to them. A mask step of 0 repeats one value.
struct ScoreRows {
  float* scores;  // each row has room for `columns` rounded up to a multiple of 16
  int64_t rows, pitch, columns;
  const float* mask;  // or none
  int64_t mask_row, mask_step;
  bool masked_rows_zero;
};

// Makes each row exp(s + mask - max) in place, max being the largest of its s + mask, and factors
// 1 / sum: 0 for a row of -inf only under masked_rows_zero (without it NaN, as the formula says)
// and for a row without columns. Under masked_rows_zero a mask of -inf hides a score whatever it
// is.
using SoftmaxRowsFn = void (*)(const ScoreRows& rows, float* factors);

// x[i][j] *= factors[i], and 0 where that is 0 even where x is not finite.
struct ResultRows {
  float* first;
  int64_t rows, stride, columns;
};
using ScaleRowsFn = void (*)(const ResultRows& x, const float* factors);

// Rows of a mask, and what no scaled score of these rows exceeds in magnitude.
struct MaskRows {
  const float* mask;
  int64_t rows, stride, columns;
  float bound;
};

// live[g] = 1 where a key of the g-th sixteen may get a probability that is not 0 in one of the
// rows; returns how many of them were 0 before. -inf always hides a key, and any other mask does
// that is so far below the row's largest that no score of at most `bound` makes up for it:
// exp gives 0 there.
using MarkKeysFn = int64_t (*)(const MaskRows& mask, uint8_t* live);

// The largest magnitude in rows of a matrix; inf where a number is not finite.
using LargestFn = float (*)(const float* x, int64_t rows, int64_t stride, int64_t columns);

#define PLANCK_ATTENTION_ISA(isa)                                                                  \
  void attention_pack_keys_##isa(const HeadRows& keys, float scale, int64_t width, float* packed); \
  void attention_pack_values_##isa(const HeadRows& values, int64_t width, int64_t panel_stride,    \
                                   float* packed);                                                 \
  void attention_softmax_rows_##isa(const ScoreRows& rows, float* factors);                        \
  void attention_scale_rows_##isa(const ResultRows& x, const float* factors);                      \
  int64_t attention_mark_keys_##isa(const MaskRows& mask, uint8_t* live);                          \
  float attention_largest_##isa(const float* x, int64_t rows, int64_t stride, int64_t columns);
PLANCK_ATTENTION_ISA(avx2)
PLANCK_ATTENTION_ISA(avx512)
PLANCK_ATTENTION_ISA(portable)
#undef PLANCK_ATTENTION_ISA

}  // namespace planck
