// Dims, graphs, patches, the text form and the matcher.
#include <gtest/gtest.h>

#include "ir/archive.h"
#include "ir/graph.h"
#include "ir/patch.h"
#include "ir/pattern.h"
#include "ops/ops.h"

namespace planck {
namespace {

Graph graph(const std::string& text) { return parse_graph(text, builtin_ops()); }
Dim dim(const char* text) { return Dim::parse(text); }

// --- dims ---
TEST(Dims, EqualPolynomialsAreEqual) {
  EXPECT_EQ(dim("2*(B+1)*L"), dim("L*B*2 + 2*L"));
  EXPECT_EQ(dim("B*L-L*B"), Dim(0));
  EXPECT_EQ(dim("(B+L)*(B-L)"), dim("B*B-L*L"));
  EXPECT_NE(dim("B"), dim("L"));
}

TEST(Dims, TextReadsBack) {
  for (const char* text :
       {"0", "-3", "B", "2*B*L-1", "((T-1)//2-1)//2", "min(L,512)", "B%4", "max(B,L)*12", "-B"}) {
    const Dim d = dim(text);
    EXPECT_EQ(Dim::parse(d.text()), d) << text << " prints as " << d;
  }
}

TEST(Dims, FloorsStayAsTheyAreUntilBound) {
  const Dim d = dim("((T-1)//2-1)//2");
  for (int64_t t = 3; t < 40; ++t) EXPECT_EQ(d.eval({{"T", t}}), ((t - 1) / 2 - 1) / 2);
  EXPECT_EQ(dim("(4*B+6)//4"), dim("B+1"));
  EXPECT_EQ(floordiv(-7, 2), Dim(-4));
  EXPECT_EQ(mod(-7, 2), Dim(1));
}

TEST(Dims, ExactDivisionCancelsOrRefuses) {
  EXPECT_EQ(exact_div(dim("12*B*L"), 12), dim("B*L"));
  EXPECT_EQ(exact_div(dim("12*B*L"), dim("4*L")), dim("3*B"));
  EXPECT_EQ(exact_div(dim("B+1"), 2), std::nullopt);
  EXPECT_EQ(exact_div(dim("B"), 0), std::nullopt);
  EXPECT_EQ(exact_div(dim("4*B"), -2), dim("-2*B"));
  EXPECT_THROW(exact_div(INT64_MIN, -1), GraphError);
}

TEST(Dims, BoundsAreThoseOfTheSymbols) {
  const SymbolBounds bounds{{"B", {1, 8}}, {"L", {1, 512}}};
  const Interval i = dim("2*B*L-1").bounds(bounds);
  EXPECT_EQ(i.low, 1);
  EXPECT_EQ(i.high, 2 * 8 * 512 - 1);
  EXPECT_EQ(dim("min(L,16)").bounds(bounds).high, 16);
}

TEST(Dims, ErrorsAreTyped) {
  EXPECT_THROW(dim("B").eval({}), UsageError);
  EXPECT_THROW(dim("2*"), GraphError);
  EXPECT_THROW(dim("9223372036854775808"), GraphError);
  EXPECT_THROW(dim("B*B*B").eval({{"B", int64_t{1} << 32}}), GraphError);
  EXPECT_THROW(dim("4//B").eval({{"B", 0}}), RunError);
}

// --- text ---
TEST(Text, RoundTrips) {
  const std::string text =
      "graph(%x: f32[2,N], %\"7\": s64[]) {\n"
      "  %w = const f32[2,2] [1,-0.5,2,inf]\n"
      "  %\"onnx::w\" = const s64[2] [-9223372036854775808,9223372036854775807]\n"
      "  %big = const f32[8,8] normal(3) quant(u8, axis 1, block 4, scale [1,2,3,4,5,6,7,8,9,"
      "10,11,12,13,14,15,16], zero [0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0])\n"
      "  %0 = MatMul(%w, %x)\n"
      "  %1 = Softmax(%0) {\"axis\":0}\n"
      "  %a, none = Dropout(%1, none, none) {\"seed\":0}\n"
      "  %2 = Add(%a, 0.100000001)\n"
      "  %3 = MatMul(%big, %big)\n"
      "  %4 = Cast(%\"onnx::w\") {\"saturate\":1,\"to\":1}\n"
      "  return %2, %\"7\", %3, %4\n"
      "}\n";
  Graph g = graph(text);
  verify(g);
  EXPECT_EQ(print(g), print(graph(print(g))));
  const std::string printed = print(g);
  for (const char* part : {"%\"7\": s64[]", "%\"onnx::w\" = const s64[2] [-9223372036854775808,",
                           "normal(3) quant(u8, axis 1, block 4, scale [1,2,",
                           "%a, none = Dropout(", "inf", "0.100000001"}) {
    EXPECT_NE(printed.find(part), std::string::npos) << part << " is not in\n" << printed;
  }
}

TEST(Text, ErrorsNameTheValue) {
  EXPECT_THROW(graph("graph(%x: f32[2]) { %0 = Relu(%y) return %0 }"), GraphError);
  EXPECT_THROW(graph("graph(%x: f99[2]) { return %x }"), GraphError);
  EXPECT_THROW(graph("graph(%x: f32[2]) { %0 = Nope(%x) return %0 }"), UnsupportedError);
}

// --- graph ---
TEST(Graphs, AnArchiveKeepsTheGridOfAConstant) {
  const Graph g = graph(R"(graph(%x: f32[2]) {
    %w = const f32[2,2] [1,2,3,4] quant(s8, axis 0, scale [0.5,2], zero [1,-3])
    %y = MatMul(%w, %x)
    return %y
  })");
  const auto bytes = write_archive(g, [](const Value&) { return int64_t{0}; });
  const ArchivedGraph back = read_archive(bytes, builtin_ops());
  EXPECT_EQ(print(back.graph), print(g));
}

TEST(Graphs, TheVerifierSeesAGridThatDoesNotFit) {
  Graph g = graph(R"(graph(%x: f32[2]) {
    %w = const f32[2,2] [1,2,3,4] quant(s8, axis 0, scale [0.5,2])
    %y = MatMul(%w, %x)
    return %y
  })");
  verify(g);
  const ValueId w = g.node(g.first()).inputs[0];
  QParams longer = *g.value(w).quant;
  longer.scale.push_back(1);
  g.set_quant(w, std::make_shared<const QParams>(longer));
  EXPECT_THROW(verify(g), InternalError);
}

TEST(Graphs, UsesCountReadersAndOutputs) {
  const Graph g = graph("graph(%x: f32[2]) { %y = Mul(%x, %x) return %y, %y }");
  EXPECT_EQ(g.uses(g.inputs[0]), 2);
  EXPECT_EQ(g.uses(g.outputs[0]), 2);
  EXPECT_TRUE(g.is_output(g.outputs[0]));
  EXPECT_EQ(g.producer(g.inputs[0]), nullptr);
}

TEST(Graphs, AClonedGraphIsIndependent) {
  const Graph g = graph("graph(%x: f32[2]) { %y = Relu(%x) %z = Exp(%y) return %z }");
  Graph copy = g.clone();
  Patch patch(copy, copy.last());
  patch.replace(copy.outputs[0], copy.inputs[0]);
  apply(copy, patch);
  EXPECT_EQ(copy.node_count(), 0);
  EXPECT_EQ(g.node_count(), 2);
  verify(g);
}

TEST(Graphs, TheVerifierSeesBrokenLinks) {
  Graph g = graph("graph(%x: f32[2]) { %y = Relu(%x) %z = Exp(%y) return %z }");
  EXPECT_THROW(g.erase(g.first()), InternalError);  // still read
  Fact wrong = g.value(g.outputs[0]).fact;
  wrong.type.dtype = DType::s64;
  g.set_fact(g.outputs[0], wrong);
  EXPECT_THROW(verify(g), InternalError);
}

// --- patches ---
Origin everything(const Graph& g) {
  Origin all = g.unused;
  for (const Node& n : g.nodes()) merge_origin(all, n.origin);
  for (size_t i = 0; i < g.value_count(); ++i) {
    const Value& v = g.value(static_cast<ValueId>(i));
    if (g.uses(v.id) > 0) merge_origin(all, v.origin);
  }
  return all;
}

TEST(Patches, ReplacementTakesOverOriginAndName) {
  Graph g = graph("graph(%x: f32[2]) { %a = Relu(%x) %b = Exp(%a) %c = Neg(%b) return %c }");
  Patch patch(g, g.producer(g.producer(g.outputs[0])->inputs[0])->id);
  const ValueId b = g.producer(g.outputs[0])->inputs[0];
  patch.replace(b, patch.add("Sqrt", {g.inputs[0]}));
  const NodeId next = apply(g, patch);
  verify(g);
  EXPECT_EQ(g.node_count(), 2);
  EXPECT_TRUE(g.node(next).is("Sqrt"));
  EXPECT_EQ(g.node(next).origin.size(), 2u);  // Relu and Exp
  EXPECT_EQ(g.value(g.node(next).outputs[0]).name, "b");
  EXPECT_EQ(everything(g).size(), g.sources->size());
}

TEST(Patches, EachReplacementKeepsItsOwnOrigin) {
  Graph g = graph(
      "graph(%x: f32[2], %z: f32[2]) { %a = Identity(%x) %b = Identity(%z) %c = Exp(%x) "
      "%d = Neg(%z) %y = Add(%a, %b) return %y, %c, %d }");
  const Node& add = *g.producer(g.outputs[0]);
  Patch patch(g, add.id);
  patch.replace(add.inputs[0], g.outputs[1]);
  patch.replace(add.inputs[1], g.outputs[2]);
  apply(g, patch);
  verify(g);
  EXPECT_EQ(g.producer(g.outputs[1])->origin.size(), 2u);
  EXPECT_EQ(g.producer(g.outputs[2])->origin.size(), 2u);
  EXPECT_EQ(everything(g).size(), g.sources->size());
}

TEST(Patches, TheCreditedNodeStandsForWhatWent) {
  Graph g = graph("graph(%x: f32[2]) { %a = Relu(%x) %b = Exp(%a) return %b }");
  Patch patch(g, g.last());
  const ValueId made = patch.add("Sqrt", {g.inputs[0]});
  patch.replace(g.outputs[0], patch.add("Neg", {made}));
  patch.credit(made);
  apply(g, patch);
  EXPECT_EQ(g.node(g.first()).origin.size(), 2u);
  EXPECT_TRUE(g.node(g.last()).origin.empty());
}

TEST(Patches, RemovedNodesAreListedAsUnused) {
  Graph g = graph("graph(%x: f32[2]) { %a = Relu(%x) %b = Exp(%a) %y = Neg(%x) return %y }");
  Patch patch(g, g.first());
  patch.remove(g.node(g.next(g.first())).id);
  apply(g, patch);
  verify(g);
  EXPECT_EQ(g.node_count(), 1);
  EXPECT_EQ(g.unused.size(), 2u);
}

TEST(Patches, UnreadConstantsAreFreed) {
  Graph g = graph("graph(%x: f32[2]) { %w = const f32[2] [1,2] %y = Mul(%x, %w) return %y }");
  const ValueId w = g.node(g.first()).inputs[1];
  Patch patch(g, g.first());
  patch.replace(g.outputs[0], g.inputs[0]);
  apply(g, patch);
  EXPECT_EQ(g.value(w).fact.constant, nullptr);
}

// --- formulas ---
bool matches(const std::string& body, const Pat& formula) {
  const Graph g = graph("graph(%x: f32[2], %z: f32[2]) {" + body + " return %y }");
  return match(g, *g.producer(g.outputs[0]), formula).has_value();
}

TEST(Patterns, SumsAndProductsMatchInAnyOrderAndBracketing) {
  const Pat f = var("a") * op("Exp", {var("b")}) * 3;
  EXPECT_TRUE(matches("%e = Exp(%z) %p = Mul(%x, %e) %y = Mul(%p, 3)", f));
  EXPECT_TRUE(matches("%e = Exp(%z) %p = Mul(3, %e) %y = Mul(%x, %p)", f));
  EXPECT_TRUE(matches("%e = Exp(%z) %p = Mul(%x, 3) %y = Mul(%e, %p)", f));
  EXPECT_FALSE(matches("%e = Exp(%z) %p = Mul(%x, 4) %y = Mul(%e, %p)", f));
  // One operand may be a product itself.
  EXPECT_TRUE(matches("%e = Exp(%z) %q = Mul(%x, %z) %p = Mul(%q, 3) %y = Mul(%e, %p)", f));
}

TEST(Patterns, ASharedPartialResultIsNotOpened) {
  const Pat f = var("a") * op("Exp", {var("b")}) * 3;
  const Graph g =
      graph("graph(%x: f32[2]) { %e = Exp(%x) %p = Mul(%x, %e) %y = Mul(%p, 3) return %y, %p }");
  EXPECT_FALSE(match(g, *g.producer(g.outputs[0]), f).has_value());
}

TEST(Patterns, TheSameVariableIsTheSameValue) {
  const Pat f = var("a") - var("a");
  EXPECT_TRUE(matches("%y = Sub(%x, %x)", f));
  EXPECT_FALSE(matches("%y = Sub(%x, %z)", f));
}

TEST(Patterns, NumbersMatchExactlyInTheirOwnType) {
  const Pat f = var("a") / 1.4142135623730951;
  EXPECT_TRUE(matches("%y = Div(%x, 1.41421354)", f));
  EXPECT_TRUE(matches("%c = const f32[1,1] [1.41421354] %y = Div(%x, %c)", f));
  EXPECT_FALSE(matches("%y = Div(%x, 1.41421366)", f));
  EXPECT_FALSE(matches("%c = const f32[2] splat(1.41421354) %y = Div(%x, %c)", f));
  EXPECT_TRUE(matches("%c = const s64[] [2] %y = Pow(%x, %c)", op("Pow", {var("a"), lit(2)})));
  EXPECT_FALSE(matches("%c = const s64[] [2] %y = Pow(%x, %c)", op("Pow", {var("a"), lit(2.5)})));
}

TEST(Patterns, NoiseInsideIsLookedThrough) {
  const Pat f = op("Exp", {op("Neg", {var("a")})});
  EXPECT_TRUE(matches("%n = Neg(%x) %i = Identity(%n) %c = Cast(%i) {\"to\":11} %y = Exp(%c)", f));
  EXPECT_FALSE(matches("%n = Neg(%x) %r = Relu(%n) %y = Exp(%r)", f));
}

TEST(Patterns, OptionalInputsAreAbsentOrNot) {
  const Pat f = op("Clip", {var("a"), absent(), var("high")});
  EXPECT_TRUE(matches("%y = Clip(%x, none, 3)", f));
  EXPECT_FALSE(matches("%y = Clip(%x, 1, 3)", f));
  EXPECT_FALSE(matches("%y = Clip(%x)", f));
  EXPECT_TRUE(matches("%y = Clip(%x)", op("Clip", {var("a")})));
  EXPECT_FALSE(matches("%y = Clip(%x, 1)", op("Clip", {var("a")})));
}

TEST(Patterns, ALongSumDoesNotExplode) {
  std::string body = "%s0 = Add(%x, %z)";
  for (int i = 1; i < 60; ++i) {
    body += cat(" %s", i, " = Add(%s", i - 1, ", %", i % 2 == 0 ? 'x' : 'z', ")");
  }
  body += " %y = Add(%s59, %x)";
  Pat f = op("Neg", {var("n")});
  for (int i = 0; i < 8; ++i) f = f + var("v" + std::to_string(i));
  EXPECT_FALSE(matches(body, f));
}

}  // namespace
}  // namespace planck
