// Reductions against double on every row, tails and special values among them, between guard pages;
// every ISA against the portable bits.
#include <cmath>
#include <numeric>

#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/reduce/rows.h"

namespace planck {
namespace {

constexpr ReduceOp kOps[] = {ReduceOp::sum,        ReduceOp::mean,   ReduceOp::max,
                             ReduceOp::min,        ReduceOp::l2,     ReduceOp::l1,
                             ReduceOp::sum_square, ReduceOp::product};

double exact(ReduceOp op, const std::vector<double>& x) {
  double sum = op == ReduceOp::product ? 1 : 0;
  double top = -kInfinity, low = kInfinity;
  bool nan = false;
  for (const double v : x) {
    const bool squares = op == ReduceOp::l2 || op == ReduceOp::sum_square;
    if (op == ReduceOp::product) {
      sum *= v;
    } else {
      sum += squares ? v * v : op == ReduceOp::l1 ? std::fabs(v) : v;
    }
    nan = nan || std::isnan(v);
    top = std::fmax(top, v);
    low = std::fmin(low, v);
  }
  if (op == ReduceOp::max) return nan ? std::nan("") : top;
  if (op == ReduceOp::min) return nan ? std::nan("") : low;
  if (op == ReduceOp::mean) return sum / static_cast<double>(x.size());
  return op == ReduceOp::l2 ? std::sqrt(sum) : sum;
}

struct ReduceShape {
  int64_t outer, count, inner;
};
const ReduceShape kShapes[] = {
    {1, 1, 1},     {3, 5, 1},    {7, 16, 1},   {2, 17, 1},    {1, 5000, 1},
    {300, 64, 1},  {2, 9, 16},   {3, 4, 7},    {2, 3, 127},   {2, 3, 128},
    {2, 3, 300},   {0, 4, 5},    {4, 5, 0},    {2, 0, 3},     {2, 0, 1},
    {1, 3, 9000},  {90, 31, 2},  {5, 100, 33}, {1, 2000, 96}, {3, 50, 88},
    {2, 3001, 12}, {1, 9000, 2}, {1, 5002, 7}, {3, 1400, 24}, {1, 257, 127}};

// Both jobs, if there are parts.
void reduce(const ReduceRow& row, ReduceArgs args) {
  Guarded<double> sums(args.outer * reduce_parts(args) * args.inner);
  if (reduce_parts(args) > 1) {
    args.sums = sums.data();
    const Job parts = row.parts_job(args);
    for (int64_t tile = 0; tile < parts.tiles; ++tile) parts.run(parts.args, tile, {});
  }
  run_all_tiles(row, args);
}

void check_reduce(const ReduceRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const ReduceShape& s : kShapes) {
    for (const ReduceOp op : kOps) {
      SCOPED_TRACE(cat(s.outer, " x ", s.count, " x ", s.inner, ", op ", static_cast<int>(op)));
      GuardedFloats x(s.outer * s.count * s.inner), out(s.outer * s.inner), same(s.outer * s.inner);
      x.randomize(5, 1.5f);
      if (x.size() > 40) x[x.size() / 2] = kNotANumber, x[3] = kInfinity, x[x.size() - 1] = -3e38f;
      x.read_only();
      ReduceArgs args{op, ReduceType::f32, x.data(), out.data(), s.outer, s.count, s.inner};
      reduce(row, args);
      args.out = same.data();
      reduce(reduce_row("reduce_any_128_portable"), args);
      expect_same_bits(out.data(), same.data(), out.size());
      for (int64_t i = 0; i < out.size(); ++i) {
        std::vector<double> terms;
        for (int64_t r = 0; r < s.count; ++r) {
          terms.push_back(x[(i / s.inner * s.count + r) * s.inner + i % s.inner]);
        }
        ASSERT_LE(ulps(out[i], exact(op, terms)), 1) << i;
      }
    }
  }
}

// Integers wrap; their bits are the same whatever the order.
template <class T>
void check_integers(const ReduceRow& row, ReduceType type) {
  PLANCK_SKIP_WITHOUT(row.isa);
  using U = std::make_unsigned_t<T>;
  for (const ReduceShape& s : kShapes) {
    if (s.count == 0) continue;
    SCOPED_TRACE(cat(s.outer, " x ", s.count, " x ", s.inner));
    Guarded<T> x(s.outer * s.count * s.inner), out(s.outer * s.inner);
    for (int64_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<T>(static_cast<U>(i * 7919) * U{2654435761u});
    }
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min, ReduceOp::product}) {
      run_all_tiles(row, ReduceArgs{op, type, x.data(), out.data(), s.outer, s.count, s.inner});
      for (int64_t i = 0; i < out.size(); ++i) {
        U sum = op == ReduceOp::product ? 1 : 0;
        T top = std::numeric_limits<T>::min(), low = std::numeric_limits<T>::max();
        for (int64_t r = 0; r < s.count; ++r) {
          const T v = x[(i / s.inner * s.count + r) * s.inner + i % s.inner];
          sum = op == ReduceOp::product ? static_cast<U>(sum * static_cast<U>(v))
                                        : static_cast<U>(sum + static_cast<U>(v));
          top = std::max(top, v), low = std::min(low, v);
        }
        const T want = op == ReduceOp::max ? top : op == ReduceOp::min ? low : static_cast<T>(sum);
        ASSERT_EQ(out[i], want) << i;
      }
    }
  }
}

#define PLANCK_REDUCE(name, isa)                                 \
  TEST(ReduceIntegers, name) {                                   \
    check_integers<int32_t>(reduce_row(#name), ReduceType::s32); \
    check_integers<int64_t>(reduce_row(#name), ReduceType::s64); \
  }                                                              \
  TEST(Reduce, name) { check_reduce(reduce_row(#name)); }
#include "kernels/reduce/kernels.inc"
#undef PLANCK_REDUCE

}  // namespace
}  // namespace planck
