// LayerNorm against double, for tails, strides, offsets of the mean and every optional operand.
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/norm/rows.h"

namespace planck {
namespace {

struct NormCase {
  int64_t rows, n;
  float mean, scale;
  bool residual, bias, gain, offset, sum;
};

// The operands of a case between forbidden pages; rows lie further apart than they are long.
struct NormData {
  explicit NormData(const NormCase& c)
      : stride(c.n + 3),
        x(c.rows * stride - 3),
        residual(c.rows * stride - 3),
        bias(c.n),
        gain(c.n),
        offset(c.n),
        out(c.rows * stride - 3),
        sum(c.rows * stride - 3) {
    x.randomize(1, c.scale), residual.randomize(2, c.scale), bias.randomize(3);
    gain.randomize(4), offset.randomize(5);
    for (float& v : x.span()) v += c.mean;
    out.fill(12345), sum.fill(12345);
  }
  NormArgs args(const NormCase& c) {
    return {x.data(),
            c.residual ? residual.data() : nullptr,
            c.bias ? bias.data() : nullptr,
            c.gain ? gain.data() : nullptr,
            c.offset ? offset.data() : nullptr,
            out.data(),
            c.sum ? sum.data() : nullptr,
            c.rows,
            c.n,
            stride,
            stride,
            stride,
            stride,
            1e-5f};
  }
  int64_t stride;
  GuardedFloats x, residual, bias, gain, offset, out, sum;
};

// s as fp32 adds it: the normalisation is judged apart from these roundings.
std::vector<float> exact_sum(const NormArgs& a, int64_t row) {
  std::vector<float> s;
  for (int64_t i = 0; i < a.n; ++i) {
    float v = a.x[row * a.x_stride + i];
    if (a.bias) v += a.bias[i];
    if (a.residual) v += a.residual[row * a.residual_stride + i];
    s.push_back(v);
  }
  return s;
}

std::vector<double> exact_norm(const NormArgs& a, const std::vector<float>& s) {
  double mean = 0, var = 0;
  for (const float v : s) mean += v;
  mean /= static_cast<double>(a.n);
  for (const float v : s) var += (v - mean) * (v - mean);
  var /= static_cast<double>(a.n);
  std::vector<double> y;
  for (int64_t i = 0; i < a.n; ++i) {
    const double unit = (s[static_cast<size_t>(i)] - mean) / std::sqrt(var + a.eps);
    y.push_back(unit * (a.gain ? a.gain[i] : 1) + (a.offset ? a.offset[i] : 0));
  }
  return y;
}

void check_case(const NormRow& row, const NormCase& c) {
  NormData data(c);
  const NormArgs a = data.args(c);
  run_all_tiles(row, a);
  for (int64_t r = 0; r < c.rows; ++r) {
    const std::vector<float> s = exact_sum(a, r);
    const std::vector<double> y = exact_norm(a, s);
    for (int64_t i = 0; i < c.n; ++i) {
      const size_t k = static_cast<size_t>(i);
      // Three roundings of the unit value and one of the result.
      ASSERT_NEAR(a.out[r * a.out_stride + i], y[k], 6e-7 * (1 + std::fabs(y[k])))
          << "row " << r << ", " << i;
      ASSERT_EQ(a.sum ? a.sum[r * a.sum_stride + i] : s[k], s[k]);
    }
    if (r + 1 == c.rows) break;
    for (int64_t i = c.n; i < a.out_stride; ++i) {
      ASSERT_EQ(a.out[r * a.out_stride + i], 12345) << "written between the rows";
    }
  }
}

// Neighbouring rows side by side: [outer, n, inner] with gaps between all of them.
void check_columns(const NormRow& row, int64_t n, int64_t inner, int flags, float mean) {
  SCOPED_TRACE(cat("n = ", n, ", inner ", inner, ", operands ", flags));
  constexpr int64_t kOuter = 2;
  const int64_t step = inner + 3, stride = n * step + 5;
  GuardedFloats x((kOuter - 1) * stride + (n - 1) * step + inner), out(x.size());
  GuardedFloats gain(n), offset(n);
  x.randomize(1, 2), gain.randomize(4), offset.randomize(5), out.fill(12345);
  for (float& v : x.span()) v += mean;
  NormArgs a{};
  a.x = x.data(), a.out = out.data();
  a.gain = (flags & 1) != 0 ? gain.data() : nullptr;
  a.offset = (flags & 2) != 0 ? offset.data() : nullptr;
  a.rows = kOuter * inner, a.n = n, a.eps = 1e-5f;
  a.x_stride = a.out_stride = stride;
  a.inner = inner, a.x_step = a.out_step = step;
  run_all_tiles(row, a);
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t first = r / inner * stride + r % inner;
    std::vector<float> s;
    for (int64_t i = 0; i < n; ++i) s.push_back(x[first + i * step]);
    const std::vector<double> y = exact_norm(a, s);
    for (int64_t i = 0; i < n; ++i) {
      const double want = y[static_cast<size_t>(i)];
      ASSERT_NEAR(out[first + i * step], want, 6e-7 * (1 + std::fabs(want))) << r << ", " << i;
    }
  }
  for (int64_t i = 0; i < out.size(); ++i) {
    const int64_t place = i % stride;
    const bool between = place >= n * step || place % step >= inner;
    ASSERT_TRUE(!between || out[i] == 12345) << i << ": written between the columns";
  }
}

void check_all_columns(const NormRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const int64_t inner : {1, 15, 16, 17, 31, 32, 33, 70}) {
    for (const int64_t n : {2, 63, 64, 65, 300}) {
      check_columns(row, n, inner, static_cast<int>((inner + n) % 4), 0.3f);
    }
  }
  for (const float mean : {100.0f, -3000.0f, 20000.0f}) check_columns(row, 512, 40, 3, mean);
}

void check_row(const NormRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const int64_t n : {1, 2, 15, 16, 17, 63, 64, 65, 100, 112, 129, 768, 1000, 20000}) {
    for (int flags = 0; flags < 32; flags += n == 768 ? 1 : 31) {
      SCOPED_TRACE(cat("n = ", n, ", operands ", flags));
      check_case(row, {n > 5000 ? 2 : 23, n, 0.3f, 2, (flags & 1) != 0, (flags & 2) != 0,
                       (flags & 4) != 0, (flags & 8) != 0, (flags & 16) != 0});
    }
  }
}

// The mean is 1e4 times the deviation, and more: the first mean's rounding must not show.
void check_far_mean(const NormRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const float mean : {100.0f, -3000.0f, 20000.0f}) {
    SCOPED_TRACE(mean);
    check_case(row, {5, 768, mean, 1, false, false, false, false, false});
  }
}

void check_in_place(const NormRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const bool onto_residual : {false, true}) {
    const NormCase c = {9, 77, 0, 1, true, true, true, true, false};
    NormData apart(c), same(c);
    run_all_tiles(row, apart.args(c));
    NormArgs a = same.args(c);
    a.out = onto_residual ? same.residual.data() : same.x.data();
    run_all_tiles(row, a);
    for (int64_t r = 0; r < c.rows; ++r) {
      expect_same_bits(a.out + r * a.out_stride, apart.out.data() + r * a.out_stride, c.n);
    }
  }
}

void check_edges(const NormRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  NormCase c = {4, 40, 0, 1, false, false, true, true, false};
  NormData data(c);
  data.x[3] = kNotANumber;
  data.x[data.stride + 39] = kInfinity;
  for (int64_t i = 0; i < c.n; ++i) data.x[2 * data.stride + i] = 7;  // no deviation
  for (int64_t i = 0; i < c.n; ++i) data.x[3 * data.stride + i] = 1e-42f;
  const NormArgs a = data.args(c);
  run_all_tiles(row, a);
  for (int64_t i = 0; i < c.n; ++i) {
    EXPECT_TRUE(std::isnan(a.out[i]));
    EXPECT_TRUE(std::isnan(a.out[data.stride + i]));
    EXPECT_EQ(a.out[2 * data.stride + i], data.offset[i]);
    EXPECT_NEAR(a.out[3 * data.stride + i], data.offset[i], 1e-6);
  }
}

void check_bits(const NormRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const int64_t n : {1, 33, 100, 768}) {
    const NormCase c = {40, n, 1, 1, true, true, true, true, true};
    NormData got(c), expected(c), one(c);
    run_all_tiles(row, got.args(c));
    run_all_tiles(norm_row("layernorm_f32_64_portable"), expected.args(c));
    expect_same_bits(got.out.data(), expected.out.data(), got.out.size());
    NormArgs last = one.args(c);  // the last row alone: its neighbours do not matter
    last.x += 39 * last.x_stride, last.residual += 39 * last.residual_stride, last.rows = 1;
    run_all_tiles(row, last);
    expect_same_bits(last.out, got.out.data() + 39 * last.out_stride, n);
  }
}

#define PLANCK_NORM(name, isa)                                 \
  TEST(Norm, name) { check_row(norm_row(#name)); }             \
  TEST(NormFarMean, name) { check_far_mean(norm_row(#name)); } \
  TEST(NormInPlace, name) { check_in_place(norm_row(#name)); } \
  TEST(NormEdges, name) { check_edges(norm_row(#name)); }      \
  TEST(NormBits, name) { check_bits(norm_row(#name)); }        \
  TEST(NormColumns, name) { check_all_columns(norm_row(#name)); }
#include "kernels/norm/kernels.inc"
#undef PLANCK_NORM

}  // namespace
}  // namespace planck
