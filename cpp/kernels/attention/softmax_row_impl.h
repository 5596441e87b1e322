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

void scale_row(float* x, int64_t count, float factor) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) store(x + i, load(x + i) * set1(factor));
  if (i < count) store_first(x + i, load_first(x + i, count - i) * set1(factor), count - i);
}

}  // namespace
}  // namespace planck
