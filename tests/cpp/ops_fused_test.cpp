// The reference of a fused op is the unfused formula: both are computed from the same inputs.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ops_fixture.h"

namespace planck {
namespace {

void expect_near(const Wide& a, const Wide& b) {
  ASSERT_EQ(a.shape, b.shape);
  for (size_t i = 0; i < a.real.size(); ++i) ASSERT_NEAR(a.real[i], b.real[i], 1e-12) << i;
}

Wide add(const Wide& a, const Wide& b) { return call("Add", "{}", {a, b}); }
Wide mul(const Wide& a, double b) { return call("Mul", "{}", {a, reals({}, {b})}); }
Wide matmul(const Wide& a, const Wide& b) { return call("MatMul", "{}", {a, b}); }
Wide reshape(const Wide& x, std::vector<int64_t> to) {
  const auto rank = static_cast<int64_t>(to.size());
  return call("Reshape", "{}", {x, ints({rank}, std::move(to))});
}
Wide swap_heads(const Wide& x) { return call("Transpose", R"({"perm":[0,2,1,3]})", {x}); }

// LayerNorm as exporters before opset 17 write it.
Wide layer_norm(const Wide& x, const Wide& gain, const Wide& bias, double epsilon) {
  const Wide last = ints({1}, {-1});
  const Wide centred = call("Sub", "{}", {x, call("ReduceMean", "{}", {x, last})});
  const Wide variance =
      call("ReduceMean", "{}", {call("Pow", "{}", {centred, reals({}, {2})}), last});
  const Wide deviation = call("Sqrt", "{}", {add(variance, reals({}, {epsilon}))});
  const Wide scaled = call("Mul", "{}", {call("Div", "{}", {centred, deviation}), gain});
  return add(scaled, bias);
}

TEST(Fused, LayerNormalizationEqualsItsNineNodes) {
  const Wide x = normal({2, 3, 8}, 1), gain = normal({8}, 2), bias = normal({8}, 3);
  expect_near(call("LayerNormalization", R"({"epsilon":1e-12})", {x, gain, bias}),
              layer_norm(x, gain, bias, 1e-12));
}

TEST(Fused, AddLayerNormGivesTheSumToo) {
  const Wide x = normal({2, 3, 8}, 1), residual = normal({2, 3, 8}, 2), gain = normal({8}, 3),
             bias = normal({8}, 4);
  const auto out =
      call_all("planck.AddLayerNorm", R"({"epsilon":1e-5})", {&x, &residual, &gain, &bias}, 2);
  expect_near(out[1], add(x, residual));
  expect_near(out[0], layer_norm(add(x, residual), gain, bias, 1e-5));
}

TEST(Fused, LinearEqualsProductBiasActivationResidual) {
  const Wide x = normal({2, 3, 5}, 1), w = normal({5, 4}, 2), bias = normal({4}, 3),
             residual = normal({2, 3, 4}, 4);
  const struct {
    const char *activation, *op, *attrs;
  } cases[] = {{"", "Identity", "{}"}, {"relu", "Relu", "{}"},
               {"gelu", "Gelu", "{}"}, {"gelu_tanh", "Gelu", R"({"approximate":"tanh"})"},
               {"tanh", "Tanh", "{}"}, {"sigmoid", "Sigmoid", "{}"}};
  for (const auto& c : cases) {
    const std::string attrs = Json{{"activation", c.activation}}.dump();
    const Wide active = call(c.op, c.attrs, {add(matmul(x, w), bias)});
    expect_near(call("planck.Linear", attrs, {x, w, bias, residual}), add(active, residual));
    expect_near(call("planck.Linear", attrs, {x, w, bias}), active);
  }
  const Wide without_bias = call_all("planck.Linear", "{}", {&x, &w, nullptr, &residual})[0];
  expect_near(without_bias, add(matmul(x, w), residual));
}

TEST(Fused, GeluEqualsItsErf) {
  const Wide x = normal({64}, 1);
  const Wide erf = call("Erf", "{}", {call("Div", "{}", {x, reals({}, {std::sqrt(2.0)})})});
  const Wide half = mul(x, 0.5);
  expect_near(call("Gelu", "{}", {x}), call("Mul", "{}", {half, add(erf, reals({}, {1}))}));
}

// Two heads of 4, v of 3; every way that operands and result may lie.
class AttentionCase : public testing::Test {
 protected:
  Wide q = normal({2, 3, 8}, 1), k = normal({2, 5, 8}, 2), v = normal({2, 5, 6}, 3);
  Wide mask = normal({2, 1, 1, 5}, 4);
  Wide apart(const Wide& x) { return swap_heads(reshape(x, {2, x.shape[1], 2, x.shape[2] / 2})); }
  Wide unfused(const Wide& scores_mask) {
    const Wide keys = call("Transpose", R"({"perm":[0,1,3,2]})", {apart(k)});
    const Wide scores = add(mul(matmul(apart(q), keys), 0.5), scores_mask);
    return matmul(call("Softmax", "{}", {scores}), apart(v));
  }
};

TEST_F(AttentionCase, EqualsItsFormulaInEveryLayout) {
  const std::string merged = R"({"heads":2,"scale":0.5})";
  const std::string split = R"({"heads":2,"scale":0.5,"merged":0})";
  const Wide expected = unfused(mask);
  expect_near(call("planck.Attention", split, {q, k, v, mask}), expected);
  expect_near(call("planck.Attention", split, {apart(q), k, apart(v), mask}), expected);
  const Wide together = reshape(swap_heads(expected), {2, 3, 6});
  expect_near(call("planck.Attention", merged, {q, apart(k), v, mask}), together);
  expect_near(call("planck.Attention", split, {q, k, v}), unfused(reals({}, {0})));
}

TEST_F(AttentionCase, FullyMaskedRowsAreNanOrZero) {
  const double none = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < 5; ++i) mask.real[i] = none;  // all of sample 0
  const Wide plain = call("planck.Attention", R"({"heads":2,"scale":0.5})", {q, k, v, mask});
  const Wide zero =
      call("planck.Attention", R"({"heads":2,"scale":0.5,"masked_rows_zero":1})", {q, k, v, mask});
  EXPECT_TRUE(std::isnan(plain.real[0]));
  for (size_t i = 0; i < 18; ++i) EXPECT_EQ(zero.real[i], 0);
  for (size_t i = 18; i < 36; ++i) EXPECT_EQ(zero.real[i], plain.real[i]);
}

TEST(Fused, EmbeddingEqualsGathersSumAndNorm) {
  const Wide words = normal({10, 8}, 1), places = normal({4, 8}, 2), gain = normal({8}, 3),
             bias = normal({8}, 4);
  const Wide ids = ints({2, 3}, {1, 9, 0, -1, 3, 3}), at = ints({1, 3}, {0, 1, 2});
  const Wide sum = add(call("Gather", "{}", {words, ids}), call("Gather", "{}", {places, at}));
  expect_near(call("planck.Embedding", R"({"tables":2})", {words, ids, places, at}), sum);
  expect_near(call("planck.Embedding", R"({"tables":2,"norm":1,"epsilon":1e-12})",
                   {words, ids, places, at, gain, bias}),
              layer_norm(sum, gain, bias, 1e-12));
}

}  // namespace
}  // namespace planck
