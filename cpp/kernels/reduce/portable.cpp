#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "kernels/reduce/rows.h"

namespace planck {
namespace {

double start(ReduceOp op) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  return op == ReduceOp::max ? -kInf : op == ReduceOp::min ? kInf : 0;
}

// One row of a tile into its accumulators; the loop has no branch, so that compilers vectorise it.
template <ReduceOp op>
void accumulate(const float* x, double* sums, int64_t columns) {
  for (int64_t i = 0; i < columns; ++i) {
    const double v = x[i];
    if constexpr (op == ReduceOp::max) {
      sums[i] = v > sums[i] || v != v ? v : sums[i];
    } else if constexpr (op == ReduceOp::min) {
      sums[i] = v < sums[i] || v != v ? v : sums[i];
    } else if constexpr (op == ReduceOp::l2) {
      sums[i] += v * v;
    } else {
      sums[i] += v;
    }
  }
}

template <ReduceOp op>
void tile(const ReduceArgs& a, int64_t outer, int64_t from) {
  double sums[kReduceBlock];
  const int64_t columns = std::min(kReduceBlock, a.inner - from);
  std::fill(sums, sums + columns, start(op));
  const float* x = a.x + outer * a.count * a.inner + from;
  for (int64_t r = 0; r < a.count; ++r) accumulate<op>(x + r * a.inner, sums, columns);
  float* out = a.out + outer * a.inner + from;
  for (int64_t i = 0; i < columns; ++i) {
    double v = sums[i];
    if (op == ReduceOp::mean) v /= static_cast<double>(a.count);
    if (op == ReduceOp::l2) v = std::sqrt(v);
    out[i] = static_cast<float>(v);
  }
}

}  // namespace

void reduce_f32_128_portable(const void* args, int64_t index, const Worker&) {
  const auto& a = *static_cast<const ReduceArgs*>(args);
  const int64_t blocks = ceil_div(a.inner, kReduceBlock);
  const int64_t outer = index / blocks, from = index % blocks * kReduceBlock;
  switch (a.op) {
    case ReduceOp::sum:
      return tile<ReduceOp::sum>(a, outer, from);
    case ReduceOp::mean:
      return tile<ReduceOp::mean>(a, outer, from);
    case ReduceOp::max:
      return tile<ReduceOp::max>(a, outer, from);
    case ReduceOp::min:
      return tile<ReduceOp::min>(a, outer, from);
    case ReduceOp::l2:
      return tile<ReduceOp::l2>(a, outer, from);
  }
}

}  // namespace planck
