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

// Leaves the logits in the row; `logits` gives those of a column and how many exist from there on.
// NaN does not count: it comes back through exp.
template <class Logits>
PLANCK_INLINE float find_max(const ScoreRow& row, Logits logits) {
  F16 top = set1(kMinusInf);
  int64_t column = 0;
  for (; column + 16 <= row.columns; column += 16) {
    const F16 x = logits(column, 16);
    store(row.scores + column, x);
    top = max2(x, top);
  }
  if (column < row.columns) {
    const F16 x = only_first(logits(column, row.columns - column), row.columns - column);
    store(row.scores + column, x);
    top = max2(x, top);
  }
  return max_lanes(top);
}

// The usual masks without their questions in the loop.
float find_max(const ScoreRow& row) {
  const F16 scale = set1(row.scale);
  const auto scaled = [&](int64_t column) __attribute__((always_inline)) {
    return load(row.scores + column) * scale;
  };
  if (row.mask == nullptr) {
    return find_max(
        row, [&](int64_t column, int64_t)
                 __attribute__((always_inline)) { return scaled(column); });
  }
  if (row.mask_step == 1 && !row.masked_rows_zero) {
    return find_max(
        row, [&](int64_t column, int64_t n) __attribute__((always_inline)) {
          const float* mask = row.mask + column;
          return scaled(column) + (n == 16 ? load(mask) : load_first(mask, n));
        });
  }
  return find_max(
      row, [&](int64_t column, int64_t n)
               __attribute__((always_inline)) { return logits(row, column, n); });
}

float exp_and_sum(const ScoreRow& row, float max) {
  const F16 top = set1(max);
  F16 sum = zero16();
  int64_t column = 0;
  for (; column + 16 < row.columns; column += 32) {
    float* at = row.scores + column;
    F16 e[2] = {load(at) - top, load(at + 16) - top};
    exp_flush(e);
    store(at, e[0]);
    store(at + 16, e[1]);
    sum = (sum + e[0]) + e[1];
  }
  if (column < row.columns) {
    const F16 e = exp_flush(load(row.scores + column) - top);
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
