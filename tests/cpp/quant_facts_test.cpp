// Grids of constants: the integers come back from the floats, whatever was done to both.
#include "passes/quant_facts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "ops/ops.h"
#include "passes/pass.h"

namespace planck {
namespace {

Tensor every_byte(DType dtype) {
  Wide wide(dtype, {256});
  for (int64_t i = 0; i < 256; ++i) {
    wide.integer[static_cast<size_t>(i)] = dtype == DType::s8 ? i - 128 : i;
  }
  return narrow(wide);
}

QParams grid(DType dtype, float scale, int32_t zero) { return {dtype, {scale}, {zero}}; }

// What DequantizeLinear makes of the bytes, in the type.
Tensor floats_of(const Tensor& q, const QParams& p, DType to) {
  const Wide wide = widen(q);
  Wide out(to, q.shape());
  for (size_t i = 0; i < out.real.size(); ++i) {
    out.real[i] =
        static_cast<double>(wide.integer[i] - p.zero_point[0]) * static_cast<double>(p.scale[0]);
  }
  return narrow(out);
}

TEST(Grids, EveryByteComesBackWhereTheGridSaysSo) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> exponent(-149, 127);
  int64_t good = 0;
  for (int i = 0; i < 2000; ++i) {
    const float scale = std::exp2(exponent(random));
    for (const DType dtype : {DType::s8, DType::u8}) {
      const QParams p = grid(dtype, scale, dtype == DType::u8 ? i % 256 : i % 256 - 128);
      for (const DType to : {DType::f32, DType::f16, DType::f64}) {
        if (!gives_back(to, p)) continue;
        const Tensor q = every_byte(dtype);
        EXPECT_TRUE(integers_on(floats_of(q, p, to), p).same_bytes(q)) << scale << " in " << to;
        ++good;
      }
    }
  }
  EXPECT_GT(good, 7000);  // f16 alone has a narrow range
}

TEST(Grids, WhatOverflowsOrVanishesIsNoGrid) {
  EXPECT_FALSE(gives_back(DType::f32, grid(DType::s8, 1e37f, 0)));
  EXPECT_FALSE(gives_back(DType::f16, grid(DType::s8, 300, 0)));
  EXPECT_FALSE(gives_back(DType::f16, grid(DType::s8, 1e-7f, 0)));
  EXPECT_FALSE(gives_back(DType::f32, grid(DType::s16, 1, 0)));
  EXPECT_FALSE(gives_back(DType::bf16, grid(DType::s8, 1, 0)));
  EXPECT_TRUE(gives_back(DType::f32, grid(DType::u8, std::numeric_limits<float>::denorm_min(), 0)));
}

TEST(Grids, IntegersBeyondTheEndsAreOurFault) {
  const float beyond[] = {127.6F};
  const Tensor x = Tensor::of<float>(DType::f32, {1}, beyond);
  EXPECT_THROW(integers_on(x, grid(DType::s8, 1, 0)), InternalError);
}

TEST(Grids, FactorsOfAllSizesScaleTheGrid) {
  std::mt19937 random(2);
  std::uniform_real_distribution<double> exponent(-20, 20);
  const Tensor q = every_byte(DType::s8);
  for (int i = 0; i < 500; ++i) {
    const auto p = std::make_shared<const QParams>(
        grid(DType::s8, static_cast<float>(std::exp2(exponent(random))), 0));
    const Tensor before = floats_of(q, *p, DType::f32);
    const double factor = std::exp2(exponent(random));
    Wide product = widen(before);
    for (double& x : product.real) x *= factor;
    const Tensor after = narrow(product);
    const QuantFact scaled = scaled_grid(before, p, after, 0, std::span(&factor, 1));
    ASSERT_NE(scaled, nullptr) << factor;
    EXPECT_TRUE(integers_on(after, *scaled).same_bytes(q));
    // -128 has no mirror image among signed bytes.
    for (double& x : product.real) x = -x;
    const double mirrored = -factor;
    EXPECT_EQ(scaled_grid(before, p, narrow(product), 0, std::span(&mirrored, 1)), nullptr);
  }
}

// The integers of a model's weights are those that its float constants hold after all passes.
TEST(Grids, AModelsIntegersSurviveThePasses) {
  Graph g = parse_graph(R"(graph(%q: u8[N,4]) {
    %zero = const u8[] [3]
    %d = DequantizeLinear(%q, 0.02, %zero)
    %w = const s8[3,4] [-127,1,2,3,4,5,-6,7,127,9,10,-11]
    %s = const f32[3] [0.013,0.0007,1.9]
    %f = DequantizeLinear(%w, %s) {"axis":0}
    %t = Transpose(%f)
    %y = MatMul(%d, %t)
    return %y
  })",
                        builtin_ops());
  PassReport report;
  run_pipeline(g, {}, report);
  const Node& linear = g.node(g.last());
  ASSERT_TRUE(linear.is("planck.Linear")) << print(g);
  EXPECT_EQ(why_no_integer_product(g, linear), "");
  const QuantFact weights = quant_of(g, linear.inputs[1]), input = quant_of(g, linear.inputs[0]);
  ASSERT_NE(weights, nullptr);
  ASSERT_NE(input, nullptr);
  EXPECT_EQ(input->zero_point, std::vector<int32_t>{3});
  EXPECT_EQ(weights->axis, 1);
  const Wide back = widen(integers_on(*g.value(linear.inputs[1]).fact.constant, *weights));
  EXPECT_EQ(back.integer, (std::vector<int64_t>{-127, 4, 127, 1, 5, 9, 2, -6, 10, 3, 7, -11}));
}

}  // namespace
}  // namespace planck
