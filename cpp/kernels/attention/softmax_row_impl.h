#pragma once
// For one ISA: included by avx2.cpp, avx512.cpp and portable.cpp after their vector header. Sixteen
// partial sums, whatever the width of the ISA's vectors: the same bits on every level.
#include "kernels/attention/softmax_row.h"

namespace planck {
namespace {

constexpr float kMinusInf = -__builtin_inff();

// Lanes that do not exist are -inf: they change no maximum and their exp is 0.
PLANCK_INLINE F16 only_first(F16 x, int64_t n) {
  return select(first_lanes(n), x, set1(kMinusInf));
}

// One row of ScoreRows.
struct ScoreRow {
  float* scores;
  int64_t columns;
  const float* mask;
  int64_t mask_step;
  bool masked_rows_zero;
};

// Where rows may be masked whole, -inf hides a score whatever it is, also NaN and inf.
PLANCK_INLINE F16 masked(const ScoreRow& row, F16 score, F16 mask) {
  const F16 sum = score + mask;
  return row.masked_rows_zero ? select(mask == set1(kMinusInf), mask, sum) : sum;
}

// s + mask for the sixteen columns from `column` on; n of them exist.
PLANCK_INLINE F16 logits(const ScoreRow& row, int64_t column, int64_t n) {
  const F16 score = load(row.scores + column);
  const float* mask = row.mask + column * row.mask_step;
  if (row.mask_step == 0) return masked(row, score, set1(*mask));
  if (row.mask_step == 1) return masked(row, score, n == 16 ? load(mask) : load_first(mask, n));
  alignas(64) float lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = mask[i * row.mask_step];
  return masked(row, score, load(lanes));
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
  if (row.mask == nullptr) {
    F16 top = set1(kMinusInf);
    for (int64_t i = 0; i < row.columns; i += 16) top = max2(load(row.scores + i), top);
    return max_lanes(top);
  }
  if (row.mask_step == 1 && !row.masked_rows_zero) {
    return find_max(
        row, [&](int64_t column, int64_t n) __attribute__((always_inline)) {
          const float* mask = row.mask + column;
          return load(row.scores + column) + (n == 16 ? load(mask) : load_first(mask, n));
        });
  }
  return find_max(
      row, [&](int64_t column, int64_t n)
               __attribute__((always_inline)) { return logits(row, column, n); });
}

// n + kBiased has the exponent of 2^n in its last bits.
constexpr float kBiased = kRound + 127;

#define PLANCK_EACH _Pragma("GCC unroll 4") for (int i = 0; i < kCount; ++i)

// exp for x <= 0 (or NaN) as exp_flush, 0 where that is, but with ln 2 as one number: what it lacks
// makes a relative error of n times 2e-9, and results of 2^-n count that little in a sum of at
// least 1.
template <int kCount>
PLANCK_INLINE void exp_below(F16 (&x)[kCount]) {
  F16 shifted[kCount], scale[kCount];
  PLANCK_EACH x[i] = max2(set1(-88.0f), x[i]);  // keeps NaN
  PLANCK_EACH shifted[i] = fma(x[i], set1(kLog2E), set1(kBiased));
  PLANCK_EACH x[i] = fnma(shifted[i] - set1(kBiased), set1(kLn2), x[i]);
  PLANCK_EACH scale[i] = floats(shift_left<23>(bits(shifted[i])));
  exp_scaled(x, scale);
}

template <int kCount>
PLANCK_INLINE F16 exp_and_sum(float* scores, F16 top, F16 sum) {
  F16 e[kCount];
  PLANCK_EACH e[i] = load(scores + int64_t{16} * i) - top;
  exp_below(e);
  PLANCK_EACH store(scores + int64_t{16} * i, e[i]);
  PLANCK_EACH sum = sum + e[i];
  return sum;
}
#undef PLANCK_EACH

// Whole vectors: what lies behind the columns is -inf.
float exp_and_sum(float* scores, int64_t columns, float max) {
  constexpr int kTogether = kRegisterLanes == 16 ? 4 : 2;
  constexpr int64_t kStep = int64_t{16} * kTogether;
  const F16 top = set1(max);
  F16 sum = zero16();
  int64_t i = 0;
  for (; i + kStep - 16 < columns; i += kStep) {
    sum = exp_and_sum<kTogether>(scores + i, top, sum);
  }
  for (; i < columns; i += 16) sum = exp_and_sum<1>(scores + i, top, sum);
  return sum_lanes(sum);
}

bool all_masked(const float* scores, int64_t columns) {
  for (int64_t i = 0; i < columns; ++i) {
    if (scores[i] != kMinusInf) return false;
  }
  return true;
}

// All maxima first: rows wait for nothing of each other, so that those of some are found, and the
// exponentials of some taken, side by side.
void softmax_rows(const ScoreRows& rows, float* factors) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    const float* mask = rows.mask == nullptr ? nullptr : rows.mask + i * rows.mask_row;
    factors[i] = find_max(
        {rows.scores + i * rows.pitch, rows.columns, mask, rows.mask_step, rows.masked_rows_zero});
  }
  for (int64_t i = 0; i < rows.rows; ++i) {
    float* scores = rows.scores + i * rows.pitch;
    if (factors[i] == kMinusInf && rows.masked_rows_zero && all_masked(scores, rows.columns)) {
      for (int64_t j = 0; j < rows.columns; ++j) scores[j] = 0;
      factors[i] = 0;
      continue;
    }
    const float sum = exp_and_sum(scores, rows.columns, factors[i]);
    factors[i] = sum == 0 ? 0 : 1 / sum;
  }
}

PLANCK_INLINE F16 mask_part(const float* mask, int64_t n) {
  return n >= 16 ? load(mask) : only_first(load_first(mask, n), n);
}

// Whether one of n columns is anything but -inf in one of the rows.
PLANCK_INLINE bool any_finite(const MaskRows& mask, const float* first, int64_t n) {
  for (int64_t i = 0; i < mask.rows; ++i, first += mask.stride) {
    const F16 part = mask_part(first, n);
    if (any((set1(kMinusInf) < part) | is_nan(part))) return true;
  }
  return false;
}

int64_t mark_finite(const MaskRows& mask, uint8_t* live) {
  int64_t marked = 0;
  for (int64_t key = 0; key < mask.columns; key += 16, ++live) {
    if (*live != 0 || !any_finite(mask, mask.mask + key, mask.columns - key)) continue;
    *live = 1;
    ++marked;
  }
  return marked;
}

// Rounding keeps order, so that these are limits of what the row's softmax computes: bound + mask
// of its logits, base of their maximum, and the difference of both of what exp is taken of. NaN
// counts as live.
int64_t mark_near(const float* mask, int64_t columns, float limit, uint8_t* live) {
  F16 top = set1(kMinusInf);
  for (int64_t key = 0; key < columns; key += 16) {
    top = max2(mask_part(mask + key, columns - key), top);
  }
  const F16 base = set1(max_lanes(top) - limit), bound = set1(limit), low = set1(kFlushBelow);
  int64_t marked = 0;
  for (int64_t key = 0; key < columns; key += 16, ++live) {
    if (*live != 0) continue;
    const F16 part = mask_part(mask + key, columns - key);
    const F16 highest = select(part == set1(kMinusInf), part, (bound + part) - base);
    if (!any((low < highest) | (low == highest) | is_nan(highest))) continue;
    *live = 1;
    ++marked;
  }
  return marked;
}

int64_t mark_keys(const MaskRows& mask, uint8_t* live) {
  if (mask.bound == -kMinusInf) return mark_finite(mask, live);
  const int64_t groups = (mask.columns + 15) / 16;
  int64_t marked = 0;
  for (int64_t i = 0; i < mask.rows && marked < groups; ++i) {
    marked += mark_near(mask.mask + i * mask.stride, mask.columns, mask.bound, live);
  }
  return marked;
}

// Magnitudes as integers: their order is the same, and NaN is above inf.
float largest(const float* x, int64_t rows, int64_t stride, int64_t columns) {
  const I16 magnitude = set1i(INT32_MAX);
  I16 top = set1i(0);
  for (int64_t i = 0; i < rows; ++i, x += stride) {
    for (int64_t j = 0; j < columns; j += 16) {
      const F16 part = columns - j >= 16 ? load(x + j) : load_first(x + j, columns - j);
      top = max2(bits(part) & magnitude, top);
    }
  }
  const F16 found = floats(top);
  return any(is_nan(found)) ? -kMinusInf : max_lanes(found);
}

void scale_rows(const ResultRows& x, const float* factors) {
  float* row = x.first;
  for (int64_t i = 0; i < x.rows; ++i, row += x.stride) {
    const bool zero = factors[i] == 0;
    const F16 factor = set1(factors[i]);
    int64_t j = 0;
    for (; j + 16 <= x.columns; j += 16) {
      store(row + j, zero ? zero16() : load(row + j) * factor);
    }
    if (j == x.columns) continue;
    const int64_t n = x.columns - j;
    store_first(row + j, zero ? zero16() : load_first(row + j, n) * factor, n);
  }
}

}  // namespace
}  // namespace planck
