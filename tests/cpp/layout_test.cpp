// Strided copies against a plain loop over indices; conversions against their definition.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "base/checked.h"
#include "base/float_state.h"
#include "base/tensor.h"
#include "kernel_rows.h"
#include "kernels/layout/rows.h"

namespace planck {
namespace {

using Dims = std::vector<int64_t>;

struct CopyCase {
  const char* name;
  Dims dims, x_strides, out_strides;
  int64_t x_first = 0;  // where element 0 of x lies, for negative strides
};

Dims dense(const Dims& dims) {
  Dims strides(dims.size());
  dense_strides(dims, strides);
  return strides;
}

// Transpose of a dense array: out dim i is x dim order[i].
CopyCase transpose(const char* name, const Dims& x_dims, const Dims& order) {
  const Dims x_strides = dense(x_dims);
  CopyCase c{name, {}, {}, {}};
  for (const int64_t i : order) {
    c.dims.push_back(x_dims[static_cast<size_t>(i)]);
    c.x_strides.push_back(x_strides[static_cast<size_t>(i)]);
  }
  c.out_strides = dense(c.dims);
  return c;
}

std::vector<CopyCase> cases() {
  std::vector<CopyCase> all = {
      transpose("dense", {5, 7, 9}, {0, 1, 2}),
      transpose("2-D", {100, 130}, {1, 0}),
      transpose("2-D tails", {13, 29}, {1, 0}),
      transpose("one block", {8, 8}, {1, 0}),
      transpose("tall", {1000, 3}, {1, 0}),
      transpose("heads", {2, 10, 4, 16}, {0, 2, 1, 3}),
      transpose("heads back to front", {2, 10, 4, 16}, {0, 2, 3, 1}),
      transpose("NCHW to NHWC", {2, 17, 9, 9}, {0, 2, 3, 1}),
      transpose("reversed", {3, 4, 5, 6, 7}, {4, 3, 2, 1, 0}),
      transpose("colours", {2, 3, 37, 41}, {0, 2, 3, 1}),
      {"colours into a gap", {50, 3}, {1, 50}, {4, 1}},
      transpose("many small planes", {500, 3, 5}, {0, 2, 1}),
      {"slice", {4, 5, 6}, {200, 20, 1}, {30, 6, 1}},
      {"slice with steps", {4, 5, 6}, {400, 40, 3}, {30, 6, 1}},
      {"backwards", {3, 20}, {20, -1}, {20, 1}, 19},
      {"concat", {6, 10}, {10, 1}, {64, 1}},
      {"expand rows", {50, 33}, {0, 1}, {33, 1}},
      {"expand columns", {50, 33}, {1, 0}, {33, 1}},
      {"expand both", {50, 3, 33}, {0, 1, 0}, {99, 33, 1}},
      {"into columns", {50, 33}, {33, 1}, {1, 50}},
      {"scatter to every third", {50}, {1}, {3}},
      {"one element", {}, {}, {}},
      {"ones", {1, 1, 1}, {0, 0, 0}, {1, 1, 1}},
      {"nothing", {4, 0, 3}, {0, 3, 1}, {0, 3, 1}},
      {"large", {300, 900}, {1, 300}, {900, 1}},
  };
  for (int64_t n = 1; n <= 150; n += n < 40 ? 1 : 11) {
    all.push_back({"short runs", {4, n}, {n + 3, 1}, {n + 1, 1}});
  }
  Dims deep(32, 1);
  deep[0] = deep[9] = deep[31] = 3;
  std::fill_n(deep.begin() + 12, 6, 2);
  all.push_back({"rank 32", deep, dense(deep), dense(deep)});
  all.back().x_strides[0] = 2000;  // not one run
  return all;
}

int64_t extent(const Dims& dims, const Dims& strides, int64_t first) {
  int64_t last = first;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return 0;
    last += std::max<int64_t>(0, (dims[i] - 1) * strides[i]);
  }
  return last + 1;
}

template <class T>
void check_copy(const CopyRow& row, const CopyCase& c) {
  std::vector<T> x(static_cast<size_t>(extent(c.dims, c.x_strides, c.x_first)));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i * 2654435761u + 1);
  std::vector<T> out(static_cast<size_t>(extent(c.dims, c.out_strides, 0)), T{77});
  std::vector<T> expected = out;
  for (int64_t i = 0; i < checked_count(c.dims); ++i) {
    int64_t rest = i, from = c.x_first, to = 0;
    for (size_t k = c.dims.size(); k-- > 0; rest /= c.dims[k]) {
      from += rest % c.dims[k] * c.x_strides[k];
      to += rest % c.dims[k] * c.out_strides[k];
    }
    expected[static_cast<size_t>(to)] = x[static_cast<size_t>(from)];
  }
  run_all_tiles(row, make_copy_args(c.dims, sizeof(T), {x.data() + c.x_first, c.x_strides},
                                    {out.data(), c.out_strides}));
  EXPECT_EQ(out, expected);
}

void check_copies(const CopyRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const CopyCase& c : cases()) {
    SCOPED_TRACE(c.name);
    check_copy<uint8_t>(row, c);
    check_copy<uint16_t>(row, c);
    check_copy<uint32_t>(row, c);
    check_copy<uint64_t>(row, c);
  }
}

TEST(CopyArgs, ChoosesTheWalk) {
  const auto kind = [](const CopyCase& c) {
    return make_copy_args(c.dims, 4, {nullptr, c.x_strides}, {nullptr, c.out_strides}).kind;
  };
  EXPECT_EQ(kind(transpose("", {5, 7, 9}, {0, 1, 2})), CopyKind::runs);
  EXPECT_EQ(kind(transpose("", {2, 10, 4, 16}, {0, 2, 1, 3})), CopyKind::runs);
  EXPECT_EQ(kind(transpose("", {100, 130}, {1, 0})), CopyKind::transpose);
  EXPECT_EQ(kind(transpose("", {2, 17, 9, 9}, {0, 2, 3, 1})), CopyKind::transpose);
  EXPECT_EQ(kind({"", {50, 33}, {1, 0}, {33, 1}}), CopyKind::repeat);
  EXPECT_EQ(kind({"", {50, 33}, {33, 1}, {1, 50}}), CopyKind::transpose);
}

TEST(CopyArgs, Refuses) {
  const Dims two = {2, 2}, one = {1}, negative = {-1, 2};
  EXPECT_THROW(make_copy_args(two, 3, {nullptr, two}, {nullptr, two}), InternalError);
  EXPECT_THROW(make_copy_args(two, 4, {nullptr, one}, {nullptr, two}), InternalError);
  EXPECT_THROW(make_copy_args(negative, 4, {nullptr, two}, {nullptr, two}), GraphError);
}

template <class From, class To>
std::vector<To> convert(const ConvertRow& row, Conversion c, const std::vector<From>& x) {
  std::vector<To> out(x.size(), To{});
  run_all_tiles(row, ConvertArgs{c, x.data(), out.data(), static_cast<int64_t>(x.size())});
  return out;
}

void check_conversions(const ConvertRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  using C = Conversion;
  const std::vector<float> f = {0,    -0.0f, 0.9f,      -0.9f,      2.5f,        -3e9f,
                                3e9f, 1e19f, kInfinity, -kInfinity, kNotANumber, 1e-45f};
  const int32_t low = INT32_MIN;
  EXPECT_EQ((convert<float, int32_t>(row, C::f32_to_s32, f)),
            (std::vector<int32_t>{0, 0, 0, 0, 2, low, low, low, low, low, low, 0}));
  const int64_t low64 = INT64_MIN;
  EXPECT_EQ((convert<float, int64_t>(row, C::f32_to_s64, f)),
            (std::vector<int64_t>{0, 0, 0, 0, 2, -3000000000, 3000000000, low64, low64, low64,
                                  low64, 0}));
  EXPECT_EQ((convert<float, uint8_t>(row, C::f32_to_b8, f)),
            (std::vector<uint8_t>{0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  const std::vector<int64_t> i = {0, 1, -1, 1LL << 40, INT64_MIN, 16777217};
  EXPECT_EQ((convert<int64_t, int32_t>(row, C::s64_to_s32, i)),
            (std::vector<int32_t>{0, 1, -1, 0, 0, 16777217}));
  EXPECT_EQ((convert<int64_t, float>(row, C::s64_to_f32, i)),
            (std::vector<float>{0, 1, -1, 0x1p40f, -0x1p63f, 16777216}));
  EXPECT_EQ((convert<int64_t, uint8_t>(row, C::s64_to_b8, i)),
            (std::vector<uint8_t>{0, 1, 1, 1, 1, 1}));
  const std::vector<uint8_t> b = {0, 1, 2, 255};
  EXPECT_EQ((convert<uint8_t, float>(row, C::b8_to_f32, b)), (std::vector<float>{0, 1, 1, 1}));
  EXPECT_EQ((convert<uint8_t, int64_t>(row, C::b8_to_s64, b)), (std::vector<int64_t>{0, 1, 1, 1}));
  EXPECT_EQ((convert<uint8_t, int32_t>(row, C::b8_to_s32, b)), (std::vector<int32_t>{0, 1, 1, 1}));
  std::vector<int32_t> many(20001);
  std::iota(many.begin(), many.end(), -10000);
  EXPECT_EQ((convert<int32_t, int64_t>(row, C::s32_to_s64, many)),
            std::vector<int64_t>(many.begin(), many.end()));
  EXPECT_EQ((convert<int32_t, float>(row, C::s32_to_f32, many)),
            std::vector<float>(many.begin(), many.end()));
  EXPECT_EQ((convert<int32_t, uint8_t>(row, C::s32_to_b8, many))[10000], 0);
}

// Floats of every exponent, around each place where rounding to half turns over.
std::vector<float> around_halves() {
  std::vector<float> out = {0, -0.0f, kInfinity, -kInfinity, 65519.99f, 65520, 1e9f, 1e-45f, 1e-9f};
  for (uint32_t bits = 0; bits < 0x7c00; bits += 7) {
    const float here = half_to_float(static_cast<uint16_t>(bits));
    const float middle = (here + half_to_float(static_cast<uint16_t>(bits + 1))) / 2;
    for (const float x :
         {here, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
      out.insert(out.end(), {x, -x});
    }
  }
  return out;
}

// The same numbers; NaN is any NaN.
bool same_number(float a, float b) {
  return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

void check_halves(const ConvertRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  using C = Conversion;
  std::vector<uint16_t> every(65536);
  std::iota(every.begin(), every.end(), uint16_t{0});
  const auto halves = convert<uint16_t, float>(row, C::f16_to_f32, every);
  const auto brains = convert<uint16_t, float>(row, C::bf16_to_f32, every);
  for (size_t i = 0; i < every.size(); ++i) {
    EXPECT_TRUE(same_number(halves[i], half_to_float(every[i]))) << i;
    EXPECT_TRUE(same_number(brains[i], bfloat_to_float(every[i]))) << i;
  }
  std::vector<float> floats = around_halves();
  floats.insert(floats.end(), brains.begin(), brains.end());
  for (const float x : {1.00390625f, 1.01171875f, 3.4e38f}) floats.push_back(x);  // ties of bf16
  const auto narrow = convert<float, uint16_t>(row, C::f32_to_f16, floats);
  const auto brain = convert<float, uint16_t>(row, C::f32_to_bf16, floats);
  for (size_t i = 0; i < floats.size(); ++i) {
    if (std::isnan(floats[i])) {
      EXPECT_TRUE(std::isnan(half_to_float(narrow[i])) && std::isnan(bfloat_to_float(brain[i])));
      continue;
    }
    const auto x = static_cast<double>(floats[i]);
    EXPECT_EQ(narrow[i], float_to_half(x)) << floats[i];
    EXPECT_EQ(brain[i], float_to_bfloat(x)) << floats[i];
  }
}

// A subnormal half is a normal float, so that flushing has no part in it.
void check_halves_flushed(const ConvertRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  std::vector<uint16_t> every(0x7C00);  // finite, positive
  std::iota(every.begin(), every.end(), uint16_t{0});
  const FloatState state(Denormals::flush);
  const auto wide = convert<uint16_t, float>(row, Conversion::f16_to_f32, every);
  for (size_t i = 0; i < every.size(); ++i) EXPECT_EQ(wide[i], half_to_float(every[i])) << i;
  EXPECT_EQ((convert<float, uint16_t>(row, Conversion::f32_to_f16, wide)), every);
}

TEST(Conversions, ByTypes) {
  EXPECT_EQ(conversion_of(DType::s64, DType::f32), Conversion::s64_to_f32);
  EXPECT_EQ(conversion_of(DType::f32, DType::b8), Conversion::f32_to_b8);
  EXPECT_EQ(conversion_of(DType::bf16, DType::f32), Conversion::bf16_to_f32);
  EXPECT_FALSE(conversion_of(DType::f64, DType::f32).has_value());
}

#define PLANCK_COPY(name, isa) \
  TEST(Copy, name) { check_copies(copy_row(#name)); }
#define PLANCK_CONVERT(name, isa)                                 \
  TEST(Convert, name) { check_conversions(convert_row(#name)); }  \
  TEST(ConvertHalves, name) { check_halves(convert_row(#name)); } \
  TEST(FlushedHalves, name) { check_halves_flushed(convert_row(#name)); }
#include "kernels/layout/kernels.inc"
#undef PLANCK_COPY
#undef PLANCK_CONVERT

}  // namespace
}  // namespace planck
