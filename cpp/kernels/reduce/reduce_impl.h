#pragma once
// Reductions as plain loops without branches, for a compiler to vectorise: included by each ISA
// file after it has defined square_root and
// add_rows<kVectors>, which adds rows of 8 kVectors columns to as many sums. Greatest and smallest
// elements keep their type, all else accumulates in double or in 64 bits.
#include "kernels/reduce/reduce.h"

namespace planck {
namespace {

constexpr int64_t kLanes = 16;

// What elements of type T are gathered in.
template <ReduceOp op, class T>
struct Sum {
  using Type = uint64_t;  // wraps
};
template <ReduceOp op>
struct Sum<op, float> {
  using Type = double;
};
template <class T>
struct Sum<ReduceOp::max, T> {
  using Type = T;
};
template <class T>
struct Sum<ReduceOp::min, T> {
  using Type = T;
};
template <>
struct Sum<ReduceOp::max, float> {
  using Type = float;
};
template <>
struct Sum<ReduceOp::min, float> {
  using Type = float;
};
template <ReduceOp op, class T>
using Accumulator = typename Sum<op, T>::Type;

template <class T>
struct Ends {
  static constexpr T kLow = T(1) << (sizeof(T) * 8 - 2) << 1, kHigh = ~kLow;
};
template <>
struct Ends<float> {
  static constexpr float kLow = -__builtin_inff(), kHigh = __builtin_inff();
};

template <ReduceOp op, class T>
constexpr Accumulator<op, T> start() {
  if (op == ReduceOp::max) return static_cast<Accumulator<op, T>>(Ends<T>::kLow);
  if (op == ReduceOp::min) return static_cast<Accumulator<op, T>>(Ends<T>::kHigh);
  return op == ReduceOp::product ? 1 : 0;
}

template <ReduceOp op, class A>
inline A joined(A sum, A v) {
  if constexpr (op == ReduceOp::max) return v > sum || v != v ? v : sum;
  if constexpr (op == ReduceOp::min) return v < sum || v != v ? v : sum;
  if constexpr (op == ReduceOp::product) return sum * v;
  return sum + v;
}

// What one element adds.
template <ReduceOp op, class T>
inline Accumulator<op, T> term(T x) {
  const auto v = static_cast<Accumulator<op, T>>(x);
  if constexpr (op == ReduceOp::l2 || op == ReduceOp::sum_square) return v * v;
  if constexpr (op == ReduceOp::l1) return v < 0 ? -v : v;
  return v;
}

template <ReduceOp op, class T>
inline T result(Accumulator<op, T> v, int64_t count) {
  if constexpr (op == ReduceOp::mean) v /= static_cast<double>(count);
  if constexpr (op == ReduceOp::l2) v = square_root(v);
  return static_cast<T>(v);
}

// Plain sums of floats, of all but the last few columns: how many. So many rows at a time that
// the next columns find them in L1.
int64_t sum_columns(const float* x, int64_t count, int64_t step, int64_t columns, double* sums) {
  constexpr int64_t kRows = 48;
  constexpr int64_t kVector = 8;
  const int64_t whole = columns / kVector * kVector;
  for (int64_t r = 0; r < count && whole > 0; r += kRows) {
    const int64_t rows = count - r < kRows ? count - r : kRows;
    const float* from = x + r * step;
    int64_t i = 0;
    for (; i + 4 * kVector <= whole; i += 4 * kVector) add_rows<4>(from + i, rows, step, sums + i);
    for (; i + 2 * kVector <= whole; i += 2 * kVector) add_rows<2>(from + i, rows, step, sums + i);
    for (; i < whole; i += kVector) add_rows<1>(from + i, rows, step, sums + i);
  }
  return whole;
}
template <ReduceOp op, class T>
constexpr bool kPlainSums = false;
template <>
constexpr bool kPlainSums<ReduceOp::sum, float> = true;
template <>
constexpr bool kPlainSums<ReduceOp::mean, float> = true;

// Columns of one outer place, at most kReduceBlock.
template <ReduceOp op, class T>
void columns_of(const T* x, T* out, int64_t count, int64_t step, int64_t columns) {
  Accumulator<op, T> sums[kReduceBlock];
  for (int64_t i = 0; i < columns; ++i) sums[i] = start<op, T>();
  int64_t done = 0;
  if constexpr (kPlainSums<op, T>) done = sum_columns(x, count, step, columns, sums);
  for (int64_t r = 0; r < count && done < columns; ++r) {
    const T* row = x + r * step;
    for (int64_t i = done; i < columns; ++i) sums[i] = joined<op>(sums[i], term<op>(row[i]));
  }
  for (int64_t i = 0; i < columns; ++i) out[i] = result<op, T>(sums[i], count);
}

template <ReduceOp op, class T>
T row_of(const T* x, int64_t count) {
  Accumulator<op, T> sums[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) sums[i] = start<op, T>();
  int64_t r = 0;
  for (; r + kLanes <= count; r += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) sums[i] = joined<op>(sums[i], term<op>(x[r + i]));
  }
  for (int64_t i = 0; r + i < count; ++i) sums[i] = joined<op>(sums[i], term<op>(x[r + i]));
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) sums[i] = joined<op>(sums[i], sums[i + half]);
  }
  return result<op, T>(sums[0], count);
}

template <ReduceOp op, class T>
void tile_of(const ReduceArgs& a, int64_t tile) {
  const int64_t block = reduce_block(a), blocks = (a.inner + block - 1) / block;
  const int64_t from = tile % blocks * block, places = reduce_places(a);
  const int64_t columns = a.inner - from < block ? a.inner - from : block;
  const int64_t first = tile / blocks * places;
  const int64_t last = first + places < a.outer ? first + places : a.outer;
  for (int64_t o = first; o < last; ++o) {
    const T* x = static_cast<const T*>(a.x) + o * a.count * a.inner + from;
    T* out = static_cast<T*>(a.out) + o * a.inner + from;
    if (a.inner == 1) {
      *out = row_of<op>(x, a.count);
    } else {
      columns_of<op>(x, out, a.count, a.inner, columns);
    }
  }
}

// One part of the rows of an outer place.
void sum_part(const ReduceArgs& a, int64_t tile) {
  const int64_t parts = reduce_parts(a), rows = reduce_part_rows(a), side = reduce_side(a.inner);
  const int64_t first = tile % parts * rows;
  const int64_t count = a.count - first < rows ? a.count - first : rows;
  const float* x = static_cast<const float*>(a.x) + (tile / parts * a.count + first) * a.inner;
  double sums[kReduceSide];
  const int64_t columns = side * a.inner, whole = count / side * columns;
  for (int64_t i = 0; i < columns; ++i) sums[i] = 0;
  sum_columns(x, count / side, columns, columns, sums);
  for (int64_t i = whole; i < count * a.inner; ++i) sums[i - whole] += static_cast<double>(x[i]);
  double* out = a.sums + tile * a.inner;
  for (int64_t i = 0; i < a.inner; ++i) {
    out[i] = sums[i];
    for (int64_t at = i + a.inner; at < columns; at += a.inner) out[i] += sums[at];
  }
}

template <ReduceOp op>
void join_parts(const ReduceArgs& a, int64_t outer) {
  const int64_t parts = reduce_parts(a);
  const double* sums = a.sums + outer * parts * a.inner;
  float* out = static_cast<float*>(a.out) + outer * a.inner;
  for (int64_t i = 0; i < a.inner; ++i) {
    double sum = sums[i];
    for (int64_t part = 1; part < parts; ++part) sum += sums[part * a.inner + i];
    out[i] = result<op, float>(sum, a.count);
  }
}

template <ReduceOp op>
void tile_of_any(const ReduceArgs& a, int64_t tile) {
  constexpr bool kExact =
      op == ReduceOp::sum || op == ReduceOp::max || op == ReduceOp::min || op == ReduceOp::product;
  if constexpr (kExact) {
    if (a.type == ReduceType::s32) return tile_of<op, int32_t>(a, tile);
    if (a.type == ReduceType::s64) return tile_of<op, int64_t>(a, tile);
  }
  if constexpr (kPlainSums<op, float>) {
    if (a.sums != nullptr) return join_parts<op>(a, tile);
  }
  tile_of<op, float>(a, tile);
}

void run_tile(const ReduceArgs& a, int64_t tile) {
  switch (a.op) {
#define PLANCK_REDUCTION(name) \
  case ReduceOp::name:         \
    return tile_of_any<ReduceOp::name>(a, tile);
    PLANCK_REDUCTION(sum)
    PLANCK_REDUCTION(mean)
    PLANCK_REDUCTION(max)
    PLANCK_REDUCTION(min)
    PLANCK_REDUCTION(l2)
    PLANCK_REDUCTION(l1)
    PLANCK_REDUCTION(sum_square)
    PLANCK_REDUCTION(product)
#undef PLANCK_REDUCTION
  }
}

}  // namespace
}  // namespace planck
