#pragma once
// For one ISA: included by avx2.cpp, avx512.cpp and portable.cpp after their vector header. Sixteen
// partial sums, whatever the width of the ISA's vectors: the same bits on every level.
#include "kernels/attention/softmax_row.h"

namespace planck {
namespace {

constexpr float kMinusInf = -__builtin_inff();

// Lanes that do not exist are -inf: they change no maximum and their exp is 0.
PLANCK_INLINE F16 only_first(F16 x, int64_t n) {
  alignas(64) float lanes[16];
  store(lanes, x);
  for (int64_t i = n; i < 16; ++i) lanes[i] = kMinusInf;
  return load(lanes);
}

// Where rows may be masked whole, -inf hides a score whatever it is, also NaN and inf.
PLANCK_INLINE F16 masked(const ScoreRow& row, F16 scaled, F16 mask) {
  const F16 sum = scaled + mask;
  return row.masked_rows_zero ? select(mask == set1(kMinusInf), mask, sum) : sum;
}

// scale * s + mask for the sixteen columns from `column` on; n of them exist.
PLANCK_INLINE F16 logits(const ScoreRow& row, int64_t column, int64_t n) {
  const F16 scaled = load(row.scores + column) * set1(row.scale);
  if (row.mask == nullptr) return scaled;
  const float* mask = row.mask + column * row.mask_step;
  if (row.mask_step == 0) return masked(row, scaled, set1(*mask));
  if (row.mask_step == 1) return masked(row, scaled, n == 16 ? load(mask) : load_first(mask, n));
  alignas(64) float lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = mask[i * row.mask_step];
  return masked(row, scaled, load(lanes));
}

// Leaves the logits in the row. NaN does not count: it comes back through exp.
float find_max(const ScoreRow& row) {
  F16 top = set1(kMinusInf);
  int64_t column = 0;
  for (; column + 16 <= row.columns; column += 16) {
    const F16 x = logits(row, column, 16);
    store(row.scores + column, x);
    top = max2(x, top);
  }
  if (column < row.columns) {
    const F16 x = only_first(logits(row, column, row.columns - column), row.columns - column);
    store(row.scores + column, x);
    top = max2(x, top);
  }
  return max_lanes(top);
}

float exp_and_sum(const ScoreRow& row, float max) {
  F16 sum = zero16();
  for (int64_t column = 0; column < row.columns; column += 16) {
    const F16 e = exp_flush(load(row.scores + column) - set1(max));
    store(row.scores + column, e);
    sum = sum + e;
  }
  return sum_lanes(sum);
}

bool all_masked(const ScoreRow& row) {
  for (int64_t i = 0; i < row.columns; ++i) {
    if (row.scores[i] != kMinusInf) return false;
  }
  return true;
}

float softmax_row(const ScoreRow& row) {
  const float max = find_max(row);
  if (max == kMinusInf && row.masked_rows_zero && all_masked(row)) {
    for (int64_t i = 0; i < row.columns; ++i) row.scores[i] = 0;
    return 0;
  }
  return exp_and_sum(row, max);
}

void scale_row(float* x, int64_t count, float factor) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) store(x + i, load(x + i) * set1(factor));
  if (i < count) store_first(x + i, load_first(x + i, count - i) * set1(factor), count - i);
}

}  // namespace
}  // namespace planck
