#pragma once
// Reductions as plain loops without branches, for a compiler to vectorise: included by each ISA
// file after it has defined square_root. Greatest and smallest elements stay floats, everything
// else accumulates in double.
#include "kernels/reduce/reduce.h"

namespace planck {
namespace {

constexpr int64_t kLanes = 16;

template <ReduceOp op>
struct Sum {
  using Type = double;
};
template <>
struct Sum<ReduceOp::max> {
  using Type = float;
};
template <>
struct Sum<ReduceOp::min> {
  using Type = float;
};
template <ReduceOp op>
using Accumulator = typename Sum<op>::Type;

template <ReduceOp op>
constexpr Accumulator<op> start() {
  if (op == ReduceOp::max) return -__builtin_inff();
  if (op == ReduceOp::min) return __builtin_inff();
  return op == ReduceOp::product ? 1 : 0;
}

template <ReduceOp op, class T>
inline T joined(T sum, T v) {
  if constexpr (op == ReduceOp::max) return v > sum || v != v ? v : sum;
  if constexpr (op == ReduceOp::min) return v < sum || v != v ? v : sum;
  if constexpr (op == ReduceOp::product) return sum * v;
  return sum + v;
}

// What one element adds.
template <ReduceOp op>
inline Accumulator<op> term(float x) {
  const Accumulator<op> v = x;
  if constexpr (op == ReduceOp::l2 || op == ReduceOp::sum_square) return v * v;
  if constexpr (op == ReduceOp::l1) return v < 0 ? -v : v;
  return v;
}

template <ReduceOp op>
inline float result(Accumulator<op> v, int64_t count) {
  if constexpr (op == ReduceOp::mean) v /= static_cast<double>(count);
  if constexpr (op == ReduceOp::l2) v = square_root(v);
  return static_cast<float>(v);
}

// Columns of one outer place, at most kReduceBlock.
template <ReduceOp op>
void columns_of(const float* x, float* out, int64_t count, int64_t step, int64_t columns) {
  Accumulator<op> sums[kReduceBlock];
  for (int64_t i = 0; i < columns; ++i) sums[i] = start<op>();
  for (int64_t r = 0; r < count; ++r) {
    const float* row = x + r * step;
    for (int64_t i = 0; i < columns; ++i) sums[i] = joined<op>(sums[i], term<op>(row[i]));
  }
  for (int64_t i = 0; i < columns; ++i) out[i] = result<op>(sums[i], count);
}

template <ReduceOp op>
float row_of(const float* x, int64_t count) {
  Accumulator<op> sums[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) sums[i] = start<op>();
  int64_t r = 0;
  for (; r + kLanes <= count; r += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) sums[i] = joined<op>(sums[i], term<op>(x[r + i]));
  }
  for (int64_t i = 0; r + i < count; ++i) sums[i] = joined<op>(sums[i], term<op>(x[r + i]));
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) sums[i] = joined<op>(sums[i], sums[i + half]);
  }
  return result<op>(sums[0], count);
}

template <ReduceOp op>
void tile_of(const ReduceArgs& a, int64_t tile) {
  const int64_t blocks = (a.inner + kReduceBlock - 1) / kReduceBlock;
  const int64_t from = tile % blocks * kReduceBlock, places = reduce_places(a);
  const int64_t columns = a.inner - from < kReduceBlock ? a.inner - from : kReduceBlock;
  const int64_t first = tile / blocks * places;
  const int64_t last = first + places < a.outer ? first + places : a.outer;
  for (int64_t o = first; o < last; ++o) {
    const float* x = a.x + o * a.count * a.inner + from;
    float* out = a.out + o * a.inner + from;
    if (a.inner == 1) {
      *out = row_of<op>(x, a.count);
    } else {
      columns_of<op>(x, out, a.count, a.inner, columns);
    }
  }
}

void run_tile(const ReduceArgs& a, int64_t tile) {
  switch (a.op) {
#define PLANCK_REDUCTION(name) \
  case ReduceOp::name:         \
    return tile_of<ReduceOp::name>(a, tile);
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
