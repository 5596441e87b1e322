#pragma once
// Included by the ISA files, which define in the anonymous namespace:
//   Lanes: one float of each of kRows rows, in order; zero(), all(x), add, fma, positive.
//   Quads: four neighbouring floats of kRows rows, in four Lanes. Part q of `Lanes` i is row
//     4 q + i, so that transposing 4 x 4 inside of parts turns rows into columns and back.
//   load_parts, transpose, store_part.
//   apply_sigmoid: to each of an array.
//   kTogether: vectors of rows that share the values of B and hide each other's latency, where
//     columns are few.
#include <cstdint>

#include "kernels/matmul/narrow.h"

namespace planck {
namespace {

constexpr int kQuad = 4, kParts = kRows / kQuad;
constexpr int64_t kPanelQuad = int64_t{kQuad} * kNarrowColumns;

// Rows of a vector, `stride` floats apart: all of them, or `rows`, the last of which is read for
// those that do not exist.
template <bool kWhole>
struct VectorRows;

template <>
struct VectorRows<true> {
  void begin(const float* first, int64_t step, int64_t) {
    stride = step;
    for (int64_t part = 0; part < kParts; ++part) at[part] = first + kQuad * part * stride;
  }
  const float* row(int i) const { return at[i / kQuad] + i % kQuad * stride; }
  void advance(int64_t k) {
    for (const float*& part : at) part += k;
  }
  int64_t stride = 0;
  const float* at[kParts] = {};
};

template <>
struct VectorRows<false> {
  void begin(const float* first, int64_t stride, int64_t rows) {
    for (int i = 0; i < kRows; ++i) at[i] = first + (i < rows ? i : rows - 1) * stride;
  }
  const float* row(int i) const { return at[i]; }
  void advance(int64_t k) {
    for (const float*& row : at) row += k;
  }
  const float* at[kRows] = {};
};

// The next kCount columns of A, of each vector of rows, times those rows of B.
template <int kCount, int kColumns, bool kWhole, int kVectors>
PLANCK_INLINE void add_products(const VectorRows<kWhole> (&a)[kVectors], const float* b,
                                Lanes (&sums)[kVectors][kColumns]) {
  Lanes columns[kVectors][kQuad];
  for (int v = 0; v < kVectors; ++v) {
    for (int i = 0; i < kQuad; ++i) {
      columns[v][i] = load_parts<kCount>([&](int part) __attribute__((always_inline)) {
        return a[v].row(kQuad * part + i);
      });
    }
    transpose(columns[v]);
  }
  for (int i = 0; i < kCount; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      const Lanes x = all(b[i * kNarrowColumns + j]);
      for (int v = 0; v < kVectors; ++v) sums[v][j] = fma(columns[v][i], x, sums[v][j]);
    }
  }
}

// What the next tile reads, a line for each four floats of four rows: where rows lie one behind the
// other, all of it.
template <int64_t kFloats>
PLANCK_INLINE void prefetch_ahead(const float* ahead) {
  constexpr int64_t kLine = 16;
  for (int64_t i = 0; i < kFloats; i += kLine) _mm_prefetch(ahead + i, _MM_HINT_T0);
}

template <int kColumns, bool kWhole, int kVectors>
PLANCK_INLINE void sum_up(const GemmCall& call, const float* first, int64_t rows,
                          Lanes (&sums)[kVectors][kColumns]) {
  constexpr int64_t kAll = int64_t{kVectors} * kRows;
  const float* b = call.b;
  for (int64_t line = 0; line < call.lines; ++line, first += call.a_line) {
    const float* ahead = first + kAll * call.a_stride;
    VectorRows<kWhole> a[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) {
      a[v].begin(first + v * kRows * call.a_stride, call.a_stride, rows);
    }
    int64_t left = call.k;
    for (; left >= kQuad; left -= kQuad, b += kPanelQuad, ahead += kAll) {
      if (kWhole) prefetch_ahead<kAll>(ahead);
      add_products<kQuad>(a, b, sums);
      for (VectorRows<kWhole>& v : a) v.advance(kQuad);
    }
    if (left == 1) add_products<1>(a, b, sums);
    if (left == 2) add_products<2>(a, b, sums);
    if (left == 3) add_products<3>(a, b, sums);
    b += left * kNarrowColumns;
  }
}

// `count` columns of C, at most kQuad, side by side from `c` on.
PLANCK_INLINE void load_c(const float* c, int64_t stride, int64_t rows, int count,
                          Lanes (&columns)[kQuad]) {
  alignas(64) float values[kQuad][kRows] = {};
  for (int64_t i = 0; i < rows; ++i) {
    for (int j = 0; j < count; ++j) values[j][i] = c[i * stride + j];
  }
  for (int j = 0; j < kQuad; ++j) columns[j] = load_lanes(values[j]);
}

PLANCK_INLINE void store_c(float* c, int64_t stride, int64_t rows, int count,
                           Lanes (&columns)[kQuad]) {
  if (count == 1 && stride == 1 && rows == kRows) return store_lanes(c, columns[0]);
  if (count == 2 && stride == 2 && rows == kRows) return store_pairs(c, columns[0], columns[1]);
  transpose(columns);
  for (int i = 0; i < kQuad; ++i) {
    for (int64_t part = 0; kQuad * part + i < rows; ++part) {
      store_part(c + (kQuad * part + i) * stride, columns[i], static_cast<int>(part), count);
    }
  }
}

// Columns of C that lie side by side: all of them, or those of a group.
PLANCK_INLINE int group_of(const GemmCall& call, int columns) {
  return call.c_group > 0 ? static_cast<int>(call.c_group) : columns;
}

// Where column j of C begins.
PLANCK_INLINE int64_t place_of(const GemmCall& call, int group, int j) {
  return j / group * call.c_group_step + j % group;
}

template <int kColumns>
PLANCK_INLINE void finish(const GemmCall& call, int64_t row, int64_t rows,
                          Lanes (&sums)[kColumns]) {
  if (call.bias != nullptr) {
    for (int j = 0; j < kColumns; ++j) sums[j] = add(sums[j], all(call.bias[j]));
  }
  if (call.residual != nullptr) {
    const float* residual = call.residual + row * call.residual_stride;
    for (int j = 0; j < kColumns; j += kQuad) {
      const int count = kColumns - j < kQuad ? kColumns - j : kQuad;
      Lanes more[kQuad];
      load_c(residual + j, call.residual_stride, rows, count, more);
      for (int i = 0; i < count; ++i) sums[j + i] = add(sums[j + i], more[i]);
    }
  }
  if ((call.flags & jit::kRelu) != 0) {
    for (int j = 0; j < kColumns; ++j) sums[j] = positive(sums[j]);
  }
  if ((call.flags & jit::kSigmoid) != 0) apply_sigmoid(sums);
}

// Hands what lies side by side in C to `use`: its first column, and how many at most kQuad.
template <int kColumns>
PLANCK_INLINE void for_runs(const GemmCall& call, const auto& use) {
  const int group = group_of(call, kColumns);
  for (int from = 0; from < kColumns; from += group) {
    const int until = from + group < kColumns ? from + group : kColumns;
    for (int j = from; j < until; j += kQuad) {
      use(j, until - j < kQuad ? until - j : kQuad, place_of(call, group, j));
    }
  }
}

template <int kColumns>
PLANCK_INLINE void load_sums(const GemmCall& call, int64_t row, int64_t rows,
                             Lanes (&sums)[kColumns]) {
  for (Lanes& sum : sums) sum = zero();
  if ((call.flags & jit::kLoadC) == 0) return;
  for_runs<kColumns>(call, [&](int j, int count, int64_t place) {
    Lanes before[kQuad];
    load_c(call.c + row * call.c_stride + place, call.c_stride, rows, count, before);
    for (int i = 0; i < count; ++i) sums[j + i] = before[i];
  });
}

template <int kColumns>
PLANCK_INLINE void store_sums(const GemmCall& call, int64_t row, int64_t rows,
                              Lanes (&sums)[kColumns]) {
  finish(call, row, rows, sums);
  for_runs<kColumns>(call, [&](int j, int count, int64_t place) {
    Lanes run[kQuad];
    for (int i = 0; i < kQuad; ++i) run[i] = i < count ? sums[j + i] : zero();
    store_c(call.c + row * call.c_stride + place, call.c_stride, rows, count, run);
  });
}

template <int kColumns, bool kWhole, int kVectors>
PLANCK_INLINE void run_tile(const GemmCall& call, int64_t row, int64_t rows) {
  Lanes sums[kVectors][kColumns];
  for (int64_t v = 0; v < kVectors; ++v) load_sums(call, row + v * kRows, rows, sums[v]);
  sum_up<kColumns, kWhole>(call, call.a + row * call.a_stride, rows, sums);
  for (int64_t v = 0; v < kVectors; ++v) store_sums(call, row + v * kRows, rows, sums[v]);
}

template <int kColumns>
void multiply_narrow(GemmCall* call) {
  constexpr int kVectors = kColumns <= kQuad ? kTogether : 1;
  constexpr int64_t kAll = int64_t{kVectors} * kRows;
  int64_t row = 0;
  for (; row + kAll <= call->rows; row += kAll)
    run_tile<kColumns, true, kVectors>(*call, row, kRows);
  for (; row + kRows <= call->rows; row += kRows) run_tile<kColumns, true, 1>(*call, row, kRows);
  if (row < call->rows) run_tile<kColumns, false, 1>(*call, row, call->rows - row);
}

constexpr jit::GemmFn kKernels[kNarrowColumns + 1] = {nullptr,
                                                      multiply_narrow<1>,
                                                      multiply_narrow<2>,
                                                      multiply_narrow<3>,
                                                      multiply_narrow<4>,
                                                      multiply_narrow<5>,
                                                      multiply_narrow<6>,
                                                      multiply_narrow<7>,
                                                      multiply_narrow<8>};

}  // namespace
}  // namespace planck
