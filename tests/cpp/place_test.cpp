// Placement: which tensors are quantised, what stays float and why, and the grids of weights.
#include "passes/place.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/cat.h"
#include "base/names.h"
#include "ops/graph_evaluator.h"
#include "ops/ops.h"
#include "quant/weight_grid.h"

namespace planck {
namespace {

Graph graph(const std::string& text) { return parse_graph(text, builtin_ops()); }

QParams u8_grid(float scale, int32_t zero) { return {DType::u8, {scale}, {zero}, -1, 0}; }

PlacementOptions of_recipe(const char* recipe) {
  PlacementOptions options;
  options.recipe = recipe;
  return options;
}

// A grid for every value with a name.
Grids grids_of(const Graph& g) {
  Grids out;
  for (size_t i = 0; i < g.value_count(); ++i) {
    const Value& v = g.value(static_cast<ValueId>(i));
    if (!v.name.empty() && !v.is_constant()) out.emplace(v.name, u8_grid(0.05F, 128));
  }
  return out;
}

std::vector<std::string> names_of(const std::vector<PlacedTensor>& tensors) {
  std::vector<std::string> out;
  for (const PlacedTensor& t : tensors) out.push_back(t.name);
  return out;
}

// The reason by the name of the node's first output, which names nodes of a text.
std::string reason(const Graph& g, const Placement& p, const std::string& output) {
  for (const KeptFloat& k : p.kept) {
    if (g.value(g.node(k.node).outputs[0]).name == output) return k.reason;
  }
  return "";
}

constexpr const char* kProducts = R"(graph(%x: f32[N,32]) {
  %w1 = const f32[32,64] normal(1)
  %w2 = const f32[16,64] normal(2)
  %w3 = const f32[16,8] normal(3)
  %t = Transpose(%w2) {"perm":[1,0]}
  %a = MatMul(%x, %w1)
  %r = Relu(%a)
  %b = MatMul(%r, %t)
  %s = Relu(%b)
  %n = ReduceMean(%s) {"keepdims":1}
  %d = Sub(%s, %n)
  %logits = MatMul(%d, %w3)
  %y = Softmax(%logits)
  return %y
})";

TEST(Place, InputsOfProductsAndNothingElse) {
  const Graph g = graph(kProducts);
  const Placement p = place(g, grids_of(g), {});
  EXPECT_EQ(p.recipe, "transformer");
  EXPECT_EQ(names_of(p.activations), (std::vector<std::string>{"x", "r"}));
  ASSERT_EQ(names_of(p.weights), (std::vector<std::string>{"w1", "w2"}));
  EXPECT_EQ(p.weights[0].grid.axis, 1);
  EXPECT_EQ(p.weights[1].grid.axis, 0);  // through the Transpose
  EXPECT_EQ(reason(g, p, "logits"), "its result is an output: logits or a head");
}

TEST(Place, PatternsOverruleTheRecipe) {
  const Graph g = graph(kProducts);
  PlacementOptions options;
  options.include = {"log*"};
  options.exclude = {"a"};
  const Placement p = place(g, grids_of(g), options);
  EXPECT_EQ(names_of(p.activations), (std::vector<std::string>{"r", "d"}));
  EXPECT_EQ(reason(g, p, "a"), "excluded by name");
  options.exclude = {"logit"};
  try {
    place(g, grids_of(g), options);
    FAIL() << "no error";
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("nearest are 'logits'"), std::string::npos) << e.what();
  }
}

TEST(Place, ScalesThatCoverNothing) {
  const Graph g = graph(kProducts);
  try {
    place(g, {{"xx", u8_grid(1, 0)}, {"other", u8_grid(1, 0)}}, {});
    FAIL() << "no error";
  } catch (const CalibrationError& e) {
    EXPECT_NE(std::string(e.what()).find("are 'xx'"), std::string::npos) << e.what();
  }
  Grids one{{"x", u8_grid(1, 0)}};
  const Placement p = place(g, one, {});
  EXPECT_EQ(reason(g, p, "b"), "its input %r has no scale");
}

TEST(Place, GridsOfWeightsThatAreGiven) {
  const Graph g = graph(kProducts);
  Grids grids = grids_of(g);
  grids["w1"] = {DType::s8, std::vector<float>(64, 0.25F), std::vector<int32_t>(64, 0), 1, 0};
  EXPECT_EQ(place(g, grids, {}).weights[0].grid, grids["w1"]);
  grids["w1"].scale.pop_back();
  grids["w1"].zero_point.pop_back();
  EXPECT_THROW(place(g, grids, {}), CalibrationError);
  PlacementOptions options;
  options.bound = {"w2"};
  grids.erase("w1");
  EXPECT_EQ(names_of(place(g, grids, options).weights), std::vector<std::string>{"w2"});
}

TEST(Place, NothingToQuantise) {
  const Graph g = graph("graph(%x: f32[N,8]) {\n  %y = Relu(%x)\n  return %y\n}");
  EXPECT_THROW(place(g, {{"x", u8_grid(1, 0)}}, {}), PrecisionError);
  EXPECT_THROW(place(g, {}, of_recipe("fast")), UsageError);
}

constexpr const char* kResidual = R"(graph(%x: f32[N,3,16,16]) {
  %w0 = const f32[16,3,3,3] normal(1)
  %w1 = const f32[16,16,3,3] normal(2)
  %w2 = const f32[16,16,3,3] normal(3)
  %wd = const f32[16,1,3,3] normal(4)
  %w4 = const f32[16,16,1,1] normal(5)
  %gain = const f32[16,1,1] normal(6)
  %c0 = Conv(%x, %w0) {"pads":[1,1,1,1]}
  %r0 = Relu(%c0)
  %c1 = Conv(%r0, %w1) {"pads":[1,1,1,1]}
  %r1 = Relu(%c1)
  %c2 = Conv(%r1, %w2) {"pads":[1,1,1,1]}
  %n2 = Mul(%c2, %gain)
  %s = Add(%n2, %r0)
  %r2 = Relu(%s)
  %d = Conv(%r2, %wd) {"pads":[1,1,1,1],"group":16}
  %p = Conv(%d, %w4)
  %h = Conv(%p, %w4)
  %q = Add(%h, %d)
  %m = ReduceMean(%q) {"keepdims":0}
  %y = Mul(%m, %m)
  return %y
})";

TEST(Place, SkipInputsOfSumsAfterConvolutions) {
  const Graph g = graph(kResidual);
  const Placement p = place(g, grids_of(g), {});
  EXPECT_EQ(p.recipe, "cnn");
  EXPECT_EQ(names_of(p.activations), (std::vector<std::string>{"r0", "r1", "d", "p"}));
  EXPECT_EQ(p.activations[0].uses.size(), 2U);  // the convolution and the skip
  EXPECT_EQ(g.value(g.node(p.activations[0].uses[1].node).outputs[0]).name, "s");
  EXPECT_EQ(reason(g, p, "c0"), "3 channels become 16; fewer than 16 and no multiple of 8");
  EXPECT_EQ(reason(g, p, "d"), "a depthwise convolution");
  ASSERT_EQ(p.weights.size(), 3U);  // w4 serves two convolutions
  EXPECT_EQ(p.weights[2].uses.size(), 2U);
  const Placement flat = place(g, grids_of(g), of_recipe("transformer"));
  EXPECT_EQ(flat.activations[0].uses.size(), 1U);
  const Placement all = place(g, grids_of(g), of_recipe("all"));
  EXPECT_TRUE(all.kept.empty());
}

// 7 x 7 over colours: few channels and raw input, but long sums.
TEST(Place, AFirstConvolutionWithLongSums) {
  const auto text = [](const char* side) {
    return cat("graph(%x: f32[N,3,16,16]) {\n%w = const f32[16,3,", side, ",", side,
               "] normal(1)\n%v = const f32[16,16,1,1] normal(2)\n%c = Conv(%x, %w)\n",
               "%d = Conv(%c, %v)\n%z = Mul(%d, %d)\n%y = MatMul(%z, %z)\nreturn %y\n}");
  };
  const Graph large = graph(text("7")), small = graph(text("4"));
  EXPECT_EQ(reason(large, place(large, grids_of(large), {}), "c"), "");
  EXPECT_NE(reason(small, place(small, grids_of(small), {}), "c"), "");
}

// The sum of a downsampling block: the convolution at the end of the longer branch adds.
TEST(Place, TheShorterBranchIsTheSkip) {
  const Graph g = graph(R"(graph(%x: f32[N,16,8,8]) {
    %w = const f32[16,16,1,1] normal(1)
    %c = Conv(%x, %w)
    %r = Relu(%c)
    %short = Conv(%r, %w)
    %l1 = Conv(%r, %w)
    %l2 = Relu(%l1)
    %long = Conv(%l2, %w)
    %s = Add(%long, %short)
    %z = Mul(%s, %s)
    return %z
  })");
  const Placement p = place(g, grids_of(g), {});
  ASSERT_EQ(names_of(p.activations), (std::vector<std::string>{"r", "l2", "short"}));
  EXPECT_EQ(p.activations[2].uses[0].input, 1);
}

TEST(Place, InsertedPairsAreSharedAndServe) {
  Graph g = graph(kResidual);
  const Placement p = place(g, grids_of(g), {});
  apply(g, p);
  int64_t quantise = 0, dequantise = 0;
  for (const Node& n : g.nodes()) {
    if (n.is("QuantizeLinear")) ++quantise;
    if (n.is("DequantizeLinear")) ++dequantise;
    EXPECT_FALSE(n.origin.empty());
  }
  EXPECT_EQ(quantise, 4);
  EXPECT_EQ(dequantise, 4 + 3);
  EXPECT_THROW(place(g, grids_of(g), {}), UsageError);  // it is quantised now
}

// Stored in half precision: the integers take the place of what the Cast gives.
constexpr const char* kHalves = R"(graph(%x: f32[N,32]) {
  %h1 = const f16[32,64] normal(1)
  %h2 = const bf16[16,64] normal(2)
  %w1 = Cast(%h1) {"to":1}
  %w2 = Cast(%h2) {"to":1}
  %t = Transpose(%w2) {"perm":[1,0]}
  %a = MatMul(%x, %w1)
  %b = MatMul(%a, %t)
  %m = ReduceMean(%x) {"keepdims":1}
  %y = Mul(%b, %m)
  %other = Mul(%w1, %w1)
  return %y, %other
})";

TEST(Place, WeightsInHalfPrecision) {
  Graph g = graph(kHalves);
  Grids grids{{"x", u8_grid(0.05F, 128)}, {"a", u8_grid(0.05F, 128)}};
  grids["w1"] = u8_grid(0.5F, 3);  // as calibration gives it; weights have grids of their own
  const Placement p = place(g, grids, {});
  ASSERT_EQ(names_of(p.weights), (std::vector<std::string>{"w1", "w2"}));
  EXPECT_EQ(p.weights[0].grid.scale.size(), 64U);
  EXPECT_EQ(p.weights[1].grid.axis, 0);
  grids["h2"] = {DType::s8, std::vector<float>(16, 0.25F), std::vector<int32_t>(16, 0), 0, 0};
  EXPECT_EQ(place(g, grids, {}).weights[1].grid, grids["h2"]);
  apply(g, p);
  int64_t casts = 0;
  for (const Node& n : g.nodes()) casts += n.is("Cast") ? 1 : 0;
  EXPECT_EQ(casts, 1);  // the one that is also read elsewhere
}

TEST(Place, BoundLayersAreQuantisedWhateverTheRecipeKeeps) {
  const Graph g = graph(kProducts);
  const Placement head = place(g, grids_of(g), {.bound = {"w3"}});
  EXPECT_EQ(names_of(head.weights), std::vector<std::string>{"w3"});
  EXPECT_EQ(reason(g, head, "a"), "the scales are not for its layer");
  EXPECT_THROW(place(g, grids_of(g), {.exclude = {"logits"}, .bound = {"w3"}}), PrecisionError);

  const Graph net = graph(kResidual);
  const Placement p = place(net, grids_of(net), {.bound = {"w0", "w2", "wd"}});
  EXPECT_EQ(names_of(p.weights), (std::vector<std::string>{"w0", "w2", "wd"}));
  // What a sum adds is not of a bound layer.
  EXPECT_EQ(names_of(p.activations), (std::vector<std::string>{"x", "r1", "r2"}));

  const Graph halves = graph(kHalves);
  const Placement half = place(halves, grids_of(halves), {.bound = {"h2"}});
  EXPECT_EQ(names_of(half.weights), std::vector<std::string>{"w2"});
}

// --- grids of weights ------------------------------------------------------------------------

double squared_error(const std::vector<float>& w, std::span<const int64_t> shape,
                     const QParams& grid) {
  const std::vector<int8_t> q = on_grid(w, shape, grid);
  double sum = 0;
  const auto columns = static_cast<size_t>(shape[1]);
  for (size_t i = 0; i < w.size(); ++i) {
    const float scale = grid.scale[grid.axis < 0 ? 0 : grid.axis == 0 ? i / columns : i % columns];
    const double d =
        static_cast<double>(w[i]) - static_cast<double>(q[i]) * static_cast<double>(scale);
    sum += d * d;
  }
  return sum;
}

TEST(WeightGrid, LeastErrorIsNotWorseThanMax) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 1);
  const Shape shape{37, 21};
  std::vector<float> w(size_t{37} * 21);
  for (float& x : w) x = normal(random) * (random() % 50 == 0 ? 12.0F : 1.0F);
  double previous = INFINITY;
  for (const int64_t axis : {int64_t{-1}, int64_t{1}, int64_t{0}}) {
    const QParams most = weight_grid(w, shape, axis, "max");
    const QParams least = weight_grid(w, shape, axis, "mse");
    EXPECT_EQ(most.scale.size(),
              axis < 0 ? 1U : static_cast<size_t>(shape[static_cast<size_t>(axis)]));
    EXPECT_LE(squared_error(w, shape, least), squared_error(w, shape, most) * (1 + 1e-6));
    if (axis >= 0) {
      EXPECT_LT(squared_error(w, shape, most), previous);
    }
    if (axis < 0) previous = squared_error(w, shape, most);
  }
}

TEST(WeightGrid, EdgesOfTheGrid) {
  const Shape shape{2, 3};
  const std::vector<float> w = {-2, 0, 1, 127, 0, 0.5F};
  const QParams grid = weight_grid(w, shape, 1, "max");
  EXPECT_EQ(grid.scale, (std::vector<float>{1, 1, 1 / 127.0F}));  // a dead channel has 1
  EXPECT_EQ(on_grid(w, shape, grid), (std::vector<int8_t>{-2, 0, 127, 127, 0, 64}));
  const QParams one{DType::s8, {0.5F}, {0}, -1, 0};
  EXPECT_EQ(on_grid(std::vector<float>{0.25F, 0.75F, -100, 100, -63.5F, 0}, shape, one),
            (std::vector<int8_t>{0, 2, -127, 127, -127, 0}));  // ties to even, symmetric limits
  EXPECT_THROW(weight_grid(std::vector<float>{1, NAN}, Shape{1, 2}, 1, "mse"), CalibrationError);
}

TEST(Names, PatternsAndNeighbours) {
  EXPECT_TRUE(matches_pattern("*/dense/*", "/layer.0/dense/MatMul"));
  EXPECT_TRUE(matches_pattern("layer.?", "layer.3"));
  EXPECT_TRUE(matches_pattern("*a*b", "xaaxab"));
  EXPECT_FALSE(matches_pattern("layer.?", "layer.33"));
  EXPECT_FALSE(matches_pattern("", "a"));
  const std::vector<std::string> names{"pooler", "layer.0", "layer.1"};
  EXPECT_EQ(nearest_names("layr.1", names, 1), std::vector<std::string>{"layer.1"});
}

}  // namespace
}  // namespace planck
