// The driver, and the pipeline as a whole: results stay, ONNX nodes stay, time stays short.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <map>
#include <optional>
#include <random>

#include "ops/graph_evaluator.h"
#include "ops/ops.h"
#include "passes/pass.h"

namespace planck {
namespace {

Graph graph(const std::string& text) { return parse_graph(text, builtin_ops()); }

// --- a BERT in text, spelled as the PyTorch exporter spells it ---
class BertText {
 public:
  BertText(int width, int heads) : width_(width), heads_(heads) {}

  std::string encoder(int blocks) {
    constants();
    std::string x = embeddings();
    for (int i = 0; i < blocks; ++i) x = block(x);
    return "graph(%ids: s64[B,L], %mask: s64[B,L], %types: s64[B,L]) {\n" + text_ + "  return %" +
           x + "\n}\n";
  }

 private:
  void line(const std::string& text) { text_ += "  " + text + "\n"; }
  std::string fresh() { return "v" + std::to_string(++count_); }
  std::string node(const std::string& op, const std::string& operands) {
    const std::string y = fresh();
    line("%" + y + " = " + op + "(" + operands + ")" + std::exchange(attrs_, ""));
    return y;
  }
  std::string node(const std::string& op, const std::string& a, const std::string& b) {
    return node(op, "%" + a + ", %" + b);
  }
  std::string weight(const std::string& shape) {
    const std::string w = fresh();
    line("%" + w + " = const f32[" + shape + "] normal(" + std::to_string(count_) + ")");
    return w;
  }

  void constants() {
    line("%zero = const s64[] [0]");
    line("%one = const s64[] [1]");
    line("%axis0 = const s64[1] [0]");
    line("%axis1 = const s64[1] [1]");
    line("%axis2 = const s64[1] [2]");
    line("%last = const s64[1] [-1]");
    line("%split = const s64[2] [" + std::to_string(heads_) + "," +
         std::to_string(width_ / heads_) + "]");
    line("%merge = const s64[1] [" + std::to_string(width_) + "]");
    const std::string wide = node("Unsqueeze", node("Unsqueeze", "mask", "axis1"), "axis2");
    attrs_ = " {\"to\":1}";
    const std::string cast = node("Cast", "%" + wide);
    added_ = node("Mul", "%" + node("Sub", "1, %" + cast) + ", -3.40282347e+38");
  }

  std::string size_of(const std::string& x, const std::string& axis) {
    return node("Unsqueeze", node("Gather", node("Shape", "%" + x), axis), "axis0");
  }
  std::string view(const std::string& x, const std::string& rest) {
    const std::string batch = size_of(x, "zero"), length = size_of(x, "one");
    attrs_ = " {\"axis\":0}";
    return node("Reshape", x, node("Concat", "%" + batch + ", %" + length + ", %" + rest));
  }
  std::string transposed(const std::string& x, const std::string& perm) {
    attrs_ = " {\"perm\":" + perm + "}";
    return node("Transpose", "%" + x);
  }

  std::string embeddings() {
    const std::string d = std::to_string(width_);
    line("%positions = const s64[1,8] [0,1,2,3,4,5,6,7]");
    const std::string length = size_of("ids", "one");
    const std::string places = node("Slice", "%positions, %axis0, %" + length + ", %axis1");
    const std::string words = node("Gather", weight("16," + d), "ids");
    const std::string types = node("Gather", weight("2," + d), "types");
    const std::string sum = node("Add", words, types);
    return norm(node("Add", sum, node("Gather", weight("8," + d), places)));
  }

  std::string linear(const std::string& x, int from, int to) {
    const std::string w = weight(std::to_string(from) + "," + std::to_string(to));
    const std::string b = weight(std::to_string(to));
    return node("Add", b, node("MatMul", x, w));
  }

  std::string norm(const std::string& x) {
    const std::string d = std::to_string(width_);
    const std::string gain = weight(d), bias = weight(d);
    const std::string centred = node("Sub", x, node("ReduceMean", x, "last"));
    const std::string square = node("Pow", "%" + centred + ", 2");
    const std::string variance = node("ReduceMean", square, "last");
    const std::string root = node("Sqrt", "%" + node("Add", "%" + variance + ", 1e-12"));
    return node("Add", node("Mul", node("Div", centred, root), gain), bias);
  }

  std::string attention(const std::string& x) {
    const std::string q = linear(x, width_, width_), k = linear(x, width_, width_);
    const std::string kt = transposed(view(k, "split"), "[0,2,3,1]");
    const std::string v = transposed(view(linear(x, width_, width_), "split"), "[0,2,1,3]");
    const std::string scores = node("MatMul", transposed(view(q, "split"), "[0,2,1,3]"), kt);
    const std::string scaled =
        node("Div", "%" + scores + ", " + std::to_string(std::sqrt(width_ / heads_)));
    const std::string masked = node("Add", scaled, added_);
    attrs_ = " {\"axis\":3}";
    const std::string weights = node("Softmax", "%" + masked);
    return view(transposed(node("MatMul", weights, v), "[0,2,1,3]"), "merge");
  }

  std::string gelu(const std::string& x) {
    const std::string gate = node("Erf", "%" + node("Div", "%" + x + ", 1.41421354"));
    return node("Mul", "%" + node("Mul", x, node("Add", "%" + gate + ", 1")) + ", 0.5");
  }

  std::string block(const std::string& x) {
    const std::string y = norm(node("Add", linear(attention(x), width_, width_), x));
    const std::string hidden = gelu(linear(y, width_, 4 * width_));
    return norm(node("Add", linear(hidden, 4 * width_, width_), y));
  }

  int width_, heads_, count_ = 0;
  std::string text_, attrs_, added_;
};

Graph bert(int blocks) { return graph(BertText(8, 2).encoder(blocks)); }

std::map<std::string, int> census(const Graph& g) {
  std::map<std::string, int> count;
  for (const Node& n : g.nodes()) ++count[n.op->text()];
  return count;
}

PassReport optimise(Graph& g, const PassOptions& options = {}) {
  PassReport report;
  run_pipeline(g, options, report);
  return report;
}

// --- results ---
Wide random_ids(Shape shape, int64_t below, unsigned seed) {
  Wide out(DType::s64, std::move(shape));
  std::mt19937 random(seed);
  for (int64_t& v : out.integer) v = std::uniform_int_distribution<int64_t>(0, below - 1)(random);
  return out;
}

void expect_close(const std::vector<Wide>& a, const std::vector<Wide>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].shape, b[i].shape);
    ASSERT_EQ(a[i].dtype, b[i].dtype);
    for (int64_t k = 0; k < a[i].count(); ++k) {
      const double x = a[i].at(k), y = b[i].at(k);
      if (std::isnan(x) && std::isnan(y)) continue;
      ASSERT_NEAR(x, y, tolerance * (1 + std::abs(x))) << "output " << i << ", element " << k;
    }
  }
}

// The references compute in double; folded constants were rounded to the graph's types.
constexpr double kTolerance = 1e-6;

TEST(Pipeline, BertFusesToItsTextbookForm) {
  Graph g = bert(2);
  optimise(g);
  auto count = census(g);
  EXPECT_EQ(count["planck.Embedding"], 1);
  EXPECT_EQ(count["planck.Attention"], 2);
  EXPECT_EQ(count["LayerNormalization"], 4);
  EXPECT_EQ(count["planck.AddLayerNorm"], 0);
  EXPECT_EQ(count["planck.Linear"], 8);
  EXPECT_EQ(count["Split"], 2);
  for (const char* gone : {"Shape", "Gather", "Concat", "Reshape", "Transpose", "MatMul", "Erf",
                           "Softmax", "ReduceMean", "Unsqueeze"}) {
    EXPECT_EQ(count[gone], 0) << gone << " in\n" << print(g);
  }
}

TEST(Pipeline, BertGivesTheSameNumbers) {
  const Graph before = bert(2);
  Graph after = before.clone();
  optimise(after);
  for (const auto& [batch, length] : {std::pair{1, 1}, {2, 5}, {3, 8}}) {
    std::vector<Wide> feeds{random_ids({batch, length}, 16, 1), random_ids({batch, length}, 2, 2),
                            random_ids({batch, length}, 2, 3)};
    feeds[1].integer[0] = 1;
    expect_close(evaluate_graph(before, feeds), evaluate_graph(after, feeds), kTolerance);
  }
}

TEST(Pipeline, EveryPassSwitchedOffGivesTheSameNumbers) {
  const Graph before = bert(1);
  const std::vector<Wide> feeds{random_ids({2, 3}, 16, 1), random_ids({2, 3}, 2, 2),
                                random_ids({2, 3}, 2, 3)};
  const std::vector<Wide> expected = evaluate_graph(before, feeds);
  for (const std::string& name : pass_names()) {
    SCOPED_TRACE(name);
    Graph after = before.clone();
    PassOptions options;
    options.disabled.insert(name);
    optimise(after, options);
    expect_close(expected, evaluate_graph(after, feeds), kTolerance);
  }
}

TEST(Pipeline, AnyNumberOfPatchesGivesTheSameNumbers) {
  const Graph before = bert(1);
  const std::vector<Wide> feeds{random_ids({2, 3}, 16, 1), random_ids({2, 3}, 2, 2),
                                random_ids({2, 3}, 2, 3)};
  const std::vector<Wide> expected = evaluate_graph(before, feeds);
  Graph whole = before.clone();
  const int64_t patches = optimise(whole).patches;
  ASSERT_GT(patches, 20);
  for (int64_t stop = 0; stop <= patches; stop += 5) {
    SCOPED_TRACE(stop);
    Graph after = before.clone();
    PassOptions options;
    options.stop_after = stop;
    options.verify_each = true;
    EXPECT_EQ(optimise(after, options).patches, stop);
    expect_close(expected, evaluate_graph(after, feeds), kTolerance);
  }
}

// --- provenance ---
Origin everything(const Graph& g) {
  Origin all = g.unused;
  for (const Node& n : g.nodes()) merge_origin(all, n.origin);
  for (size_t i = 0; i < g.value_count(); ++i) {
    const Value& v = g.value(static_cast<ValueId>(i));
    if (g.uses(v.id) > 0) merge_origin(all, v.origin);
  }
  return all;
}

TEST(Pipeline, NoOnnxNodeIsLostOnTheWay) {
  const Graph before = bert(2);
  Graph whole = before.clone();
  const int64_t patches = optimise(whole).patches;
  for (int64_t stop = 0; stop <= patches; ++stop) {
    Graph after = before.clone();
    PassOptions options;
    options.stop_after = stop;
    optimise(after, options);
    ASSERT_EQ(everything(after).size(), before.sources->size()) << "after patch " << stop;
  }
}

TEST(Pipeline, ASecondRunFindsNothing) {
  Graph g = bert(2);
  optimise(g);
  const std::string once = print(g);
  EXPECT_EQ(optimise(g).patches, 0);
  EXPECT_EQ(print(g), once);
}

TEST(Pipeline, TheSameGraphGivesTheSameText) {
  Graph a = bert(2), b = bert(2);
  optimise(a);
  optimise(b);
  EXPECT_EQ(print(a), print(b));
}

TEST(Pipeline, TwentyEightBlocksTakeLittleTime) {
  Graph g = bert(28);
  ASSERT_GT(g.node_count(), 2000);
  const auto start = std::chrono::steady_clock::now();
  optimise(g);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took.count(), 2.0) << "seconds";
  EXPECT_EQ(census(g)["planck.Attention"], 28);
}

// --- driver ---
TEST(Driver, CountsAndNames) {
  Graph g =
      graph("graph(%x: f32[2]) { %a = Identity(%x) %b = Identity(%a) %y = Relu(%b) return %y }");
  const PassReport report = optimise(g);
  EXPECT_EQ(report.patches, 2);
  EXPECT_EQ(report.rows.size(), pipeline().size());
  EXPECT_EQ(g.node_count(), 1);
}

TEST(Driver, UnknownNamesAreRefused) {
  Graph g = graph("graph(%x: f32[2]) { %y = Relu(%x) return %y }");
  PassOptions options;
  options.disabled.insert("no_such_pass");
  EXPECT_THROW(optimise(g, options), UsageError);
}

TEST(Driver, ProgressMayCancel) {
  Graph g = graph("graph(%x: f32[2]) { %y = Relu(%x) return %y }");
  PassOptions options;
  size_t calls = 0;
  options.progress = [&](std::string_view, size_t done, size_t total) {
    EXPECT_EQ(done, calls++);
    EXPECT_EQ(total, pipeline().size());
    return done < 3;
  };
  EXPECT_THROW(optimise(g, options), CancelledError);
  EXPECT_EQ(calls, 4u);
}

TEST(Driver, APassWithoutEndIsOurMistake) {
  const Pass endless = node_pass("endless", [](const Graph& g, const Node& n) {
    Patch patch(g, n.id);
    patch.replace(n.outputs[0], patch.add("Relu", {n.inputs[0]}));
    return std::optional<Outcome>(std::move(patch));
  });
  Graph g = graph("graph(%x: f32[2]) { %y = Relu(%x) return %y }");
  PassReport report;
  try {
    run_pass(g, endless, {}, report);
    FAIL() << "the pass ended";
  } catch (const InternalError& e) {
    EXPECT_NE(std::string(e.what()).find("in pass endless"), std::string::npos) << e.what();
  }
}

TEST(Driver, ErrorsNamePatchAndPass) {
  const Pass broken = node_pass("broken", [](const Graph& g, const Node& n) {
    if (!n.is("Neg")) return std::optional<Outcome>();
    Patch patch(g, n.id);
    Fact wrong = g.value(n.outputs[0]).fact;
    wrong.type.dtype = DType::s64;
    const ValueId y = patch.add("Relu", {n.inputs[0]});
    patch.refine(y, wrong);
    patch.replace(n.outputs[0], y);
    return std::optional<Outcome>(std::move(patch));
  });
  Graph g = graph("graph(%x: f32[2]) { %y = Neg(%x) return %y }");
  PassReport report;
  try {
    run_pass(g, broken, {}, report);
    FAIL() << "nothing was verified";
  } catch (const InternalError& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("in patch 0"), std::string::npos) << text;
    EXPECT_NE(text.find("in pass broken"), std::string::npos) << text;
  }
}

TEST(Driver, ARefusalIsReportedOnce) {
  Graph g = graph(
      "graph(%x: f32[N,8]) { %a = Div(%x, 1.41421354) %e = Erf(%a) %b = Add(%e, 1) "
      "%p = Mul(%x, %b) %y = Mul(%p, 0.5) return %y, %e }");
  const PassReport report = optimise(g);
  ASSERT_EQ(report.refusals.size(), 1u);
  EXPECT_EQ(report.refusals[0].pass, "gelu");
  EXPECT_EQ(report.refusals[0].node, "y");
  EXPECT_EQ(report.refusals[0].reason, "%e is also read elsewhere");
}

}  // namespace
}  // namespace planck
