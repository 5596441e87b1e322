// Softmax against double, for tails, strides and rows without a finite maximum.
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/softmax/rows.h"

namespace planck {
namespace {

struct Sums {
  double top = -kInfinity, sum = 0;
};
Sums sums_of(const float* x, int64_t n) {
  Sums s;
  for (int64_t i = 0; i < n; ++i) s.top = x[i] > s.top ? x[i] : s.top;
  for (int64_t i = 0; i < n; ++i) s.sum += std::exp(x[i] - s.top);
  return s;
}

void expect_row(const float* x, const float* y, int64_t n) {
  const auto [top, sum] = sums_of(x, n);
  for (int64_t i = 0; i < n; ++i) {
    const double exact = std::exp(x[i] - top) / sum;
    if (std::isnan(exact)) {
      ASSERT_TRUE(std::isnan(y[i])) << i;
      continue;
    }
    // x - max rounds once: |x - max| / 2 ulps of e^x. Six roundings besides, and results below
    // the normal range flush to 0.
    const double bound = 6e-8 * (7 + std::fabs(x[i] - top)) * exact + 1.2e-38;
    ASSERT_NEAR(y[i], exact, std::isinf(x[i]) ? 0 : bound) << i;
  }
}

void expect_log_row(const float* x, const float* y, int64_t n) {
  const auto [top, sum] = sums_of(x, n);
  for (int64_t i = 0; i < n; ++i) {
    const double exact = x[i] - top - std::log(sum);
    if (std::isnan(exact)) {
      ASSERT_TRUE(std::isnan(y[i])) << i;
    } else if (std::isinf(exact)) {
      ASSERT_EQ(y[i], exact) << i;
    } else {
      // Both differences round, and so do the sum and its logarithm.
      ASSERT_NEAR(y[i], exact, 6e-8 * (2 * std::fabs(x[i] - top) + 3 * std::log(sum) + 8)) << i;
    }
  }
}

struct SoftmaxData {
  SoftmaxData(int64_t row_count, int64_t length, float scale)
      : rows(row_count), n(length), stride(n + 5), x(rows * stride - 5), out(rows * stride - 5) {
    x.randomize(static_cast<uint32_t>(n), scale);
    out.fill(12345);
  }
  SoftmaxArgs args() { return {x.data(), out.data(), rows, n, stride, stride}; }
  int64_t rows, n, stride;
  GuardedFloats x, out;
};

void check_row(const SoftmaxRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const int64_t n : {1, 2, 15, 16, 17, 49, 64, 65, 100, 128, 384, 1000, 9000}) {
    for (const float scale : {1.0f, 100.0f, 1e4f}) {
      SCOPED_TRACE(cat("n = ", n, ", |x| <= ", scale));
      SoftmaxData data(n > 5000 ? 2 : 70, n, scale);
      run_all_tiles(row, data.args());
      for (int64_t r = 0; r < data.rows; ++r) {
        expect_row(data.x.data() + r * data.stride, data.out.data() + r * data.stride, n);
        ASSERT_TRUE(r + 1 == data.rows || data.out[r * data.stride + n] == 12345);
      }
      SoftmaxArgs log = data.args();
      log.log = true;
      run_all_tiles(row, log);
      for (int64_t r = 0; r < data.rows; ++r) {
        expect_log_row(data.x.data() + r * data.stride, data.out.data() + r * data.stride, n);
        ASSERT_TRUE(r + 1 == data.rows || data.out[r * data.stride + n] == 12345);
      }
    }
  }
}

void check_edges(const SoftmaxRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const int64_t n : {5, 16, 70}) {
    SoftmaxData data(5, n, 3);
    const auto at = [&](int64_t r, int64_t i) -> float& { return data.x[r * data.stride + i]; };
    at(0, 3) = kNotANumber;
    at(1, 4) = kInfinity;
    for (int64_t i = 0; i < n; ++i) at(2, i) = -kInfinity;
    at(3, 0) = at(3, n - 1) = -kInfinity;
    for (int64_t i = 0; i < n; ++i) at(4, i) = std::numeric_limits<float>::lowest();
    run_all_tiles(row, data.args());
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t r = 0; r < 3; ++r) EXPECT_TRUE(std::isnan(data.out[r * data.stride + i]));
      EXPECT_NEAR(data.out[4 * data.stride + i], 1.0 / static_cast<double>(n), 1e-7);
    }
    expect_row(&at(3, 0), data.out.data() + 3 * data.stride, n);
    SoftmaxArgs log = data.args();
    log.log = true;
    run_all_tiles(row, log);
    for (int64_t r = 0; r < 5; ++r) expect_log_row(&at(r, 0), data.out.data() + r * data.stride, n);
  }
}

void check_bits(const SoftmaxRow& row, bool log) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const int64_t n : {7, 128, 333}) {
    SoftmaxData got(60, n, 20), expected(60, n, 20), same(60, n, 20);
    const auto args = [&](SoftmaxData& data) {
      SoftmaxArgs a = data.args();
      a.log = log;
      return a;
    };
    run_all_tiles(row, args(got));
    run_all_tiles(softmax_row("softmax_f32_64_portable"), args(expected));
    expect_same_bits(got.out.data(), expected.out.data(), got.out.size());
    SoftmaxArgs in_place = args(same);
    in_place.out = same.x.data();
    run_all_tiles(row, in_place);
    for (int64_t r = 0; r < 60; ++r) {
      expect_same_bits(in_place.out + r * same.stride, got.out.data() + r * same.stride, n);
    }
  }
}

#define PLANCK_SOFTMAX(name, isa)                               \
  TEST(Softmax, name) { check_row(softmax_row(#name)); }        \
  TEST(SoftmaxEdges, name) { check_edges(softmax_row(#name)); } \
  TEST(SoftmaxBits, name) {                                     \
    check_bits(softmax_row(#name), false);                      \
    check_bits(softmax_row(#name), true);                       \
  }
#include "kernels/softmax/kernels.inc"
#undef PLANCK_SOFTMAX

}  // namespace
}  // namespace planck
