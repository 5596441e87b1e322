// Inference with symbols: types, contents, and the sentences of its errors.
#include <gtest/gtest.h>

#include "ops_fixture.h"

namespace planck {
namespace {

const Dim kB = Dim::symbol("B"), kL = Dim::symbol("L"), kT = Dim::symbol("T");

Fact shape_of(const Fact& x) { return infer("Shape", "{}", {x}); }
Fact pick(const Fact& list, int64_t at) { return infer("Gather", "{}", {list, number(at)}); }
Fact listed(const Fact& scalar) { return infer("Unsqueeze", "{}", {scalar, known({0})}); }
Fact slice(const Fact& x, int64_t axis, const Fact& from, const Fact& to, int64_t step = 1) {
  return infer("Slice", "{}", {x, from, to, known({axis}), known({step})});
}

TEST(Infer, BertSplitsHeadsThroughItsShapeChain) {
  const Fact x = f32({kB, kL, 768});
  const Fact b = listed(pick(shape_of(x), 0)), l = listed(pick(shape_of(x), 1));
  const Fact wish = infer("Concat", R"({"axis":0})", {b, l, known({12}), known({-1})});
  EXPECT_EQ(text(wish), "s64[4] {B,L,12,-1}");
  const Fact heads = infer("Reshape", "{}", {x, wish});
  EXPECT_EQ(text(heads), "f32[B,L,12,64]");
  const Fact apart = infer("Transpose", R"({"perm":[0,2,1,3]})", {heads});
  EXPECT_EQ(text(apart), "f32[B,12,L,64]");
}

TEST(Infer, BertCutsThePositionTable) {
  const Fact ids = value(DType::s64, {kB, kL});
  const Fact end = listed(pick(shape_of(ids), 1));
  const Fact table = {{DType::s64, {1, 512}}, {}, {}};
  EXPECT_EQ(text(slice(table, 1, known({0}), end)), "s64[1,min(512,L)]");
  EXPECT_EQ(text(slice(f32({kB, kL}), 1, known({0}), end)), "f32[B,L]");
}

TEST(Infer, WenetSubsamplesItsMaskTwice) {
  const Fact mask = value(DType::b8, {kB, 1, kT});
  const Fact once = slice(mask, 2, known({0}), known({-2}), 2);
  EXPECT_EQ(once.type.dims[2], floordiv(kT - 1, 2));
  const Fact twice = slice(once, 2, known({0}), known({-2}), 2);
  EXPECT_EQ(twice.type.dims[2], floordiv(floordiv(kT - 1, 2) - 1, 2));
}

TEST(Infer, WenetComputesItsLengthFromContents) {
  const Fact t = pick(shape_of(f32({kB, kT, 80})), 1);
  const Fact once = infer("Div", "{}", {infer("Sub", "{}", {t, number(1)}), number(2)});
  // (T - 1) / 2 truncates, so at T = 0 it is not the floor: not known.
  EXPECT_FALSE(once.contents);
  const Fact padded = infer("Div", "{}", {infer("Add", "{}", {t, number(1)}), number(2)});
  EXPECT_EQ(padded.contents->at(0), floordiv(kT + 1, 2));
}

TEST(Infer, SlicesOfSymbolicExtents) {
  const Fact x = f32({kB, kL});
  EXPECT_EQ(text(slice(x, 1, known({1}), known({INT64_MAX}))), "f32[B,L-1]");
  EXPECT_EQ(text(slice(x, 1, known({0}), known({-1}))), "f32[B,L-1]");
  EXPECT_EQ(text(slice(x, 1, known({0}), known({5}))), "f32[B,min(5,L)]");
  EXPECT_EQ(text(slice(x, 1, known({-3}), known({INT64_MAX}))), "f32[B,min(3,L)]");
  EXPECT_EQ(text(slice(x, 1, known({-1}), known({-INT64_MAX}), -1)), "f32[B,L]");
  EXPECT_EQ(text(slice(f32({10}), 0, known({-3}), known({100}), 2)), "f32[2]");
  EXPECT_EQ(text(slice(x, 1, value(DType::s64, {1}), known({5}))), "f32[B,fresh1]");
}

TEST(Infer, ReshapeCancelsSymbols) {
  const auto reshape = [](const Fact& x, std::vector<Dim> wish) {
    Fact shape = value(DType::s64, {static_cast<int64_t>(wish.size())});
    shape.contents = std::move(wish);
    return text(infer("Reshape", "{}", {x, shape}));
  };
  EXPECT_EQ(reshape(f32({kB, kL, 12, 64}), {0, 0, 768}), "f32[B,L,768]");
  EXPECT_EQ(reshape(f32({kB, kL, 12, 64}), {-1, 64}), "f32[12*B*L,64]");
  EXPECT_EQ(reshape(f32({kB, kL + kT, 8}), {kB, kL + kT, 2, -1}), "f32[B,L+T,2,4]");
  EXPECT_EQ(reshape(f32({kL}), {-1, 3}), "f32[((L)//(3)),3]");
}

TEST(Infer, ContentsOfFilledAndChosenShapes) {
  const Fact ones = infer("ConstantOfShape", R"({"value":1,"dtype":7})", {known({3})});
  EXPECT_EQ(text(ones), "s64[3] {1,1,1}");
  const Fact wish = known({4, -1, 6});
  const Fact open = infer("Equal", "{}", {wish, known({-1})});
  EXPECT_EQ(text(open), "b8[3] {0,1,0}");
  const Fact chosen = infer("Where", "{}", {open, ones, wish});
  EXPECT_EQ(text(chosen), "s64[3] {4,1,6}");
  EXPECT_EQ(text(infer("Expand", "{}", {f32({6}), chosen})), "f32[4,1,6]");
  const Fact shape = shape_of(f32({kB, kL}));
  EXPECT_EQ(text(infer("Equal", "{}", {shape, known({-1})})), "b8[2] {0,0}");
  EXPECT_EQ(text(infer("Equal", "{}", {shape, known({7})})), "b8[2]");
}

TEST(Infer, RangeOfALength) {
  const Fact l = pick(shape_of(f32({kB, kL})), 1);
  EXPECT_EQ(text(infer("Range", "{}", {number(0), l, number(1)})), "s64[L]");
  EXPECT_EQ(text(infer("Range", "{}", {number(2), number(8), number(3)})), "s64[2] {2,5}");
  EXPECT_EQ(text(infer("Range", "{}", {l, infer("Add", "{}", {l, number(4)}), number(2)})),
            "s64[2] {L,L+2}");
}

TEST(Infer, ContentsDoNotOverflowOrWrap) {
  const Fact big = known({INT64_MAX});
  EXPECT_FALSE(infer("Mul", "{}", {big, big}).contents);
  const Fact length = shape_of(f32({kL}));
  EXPECT_FALSE(infer("Cast", R"({"to":3})", {length}).contents);
  EXPECT_EQ(text(infer("Cast", R"({"to":6})", {length})), "s32[1] {L}");
}

TEST(Infer, ProductsAndNorms) {
  EXPECT_EQ(text(infer("MatMul", "{}", {f32({kB, 12, kL, 64}), f32({kB, 12, 64, kL})})),
            "f32[B,12,L,L]");
  EXPECT_EQ(text(infer("MatMul", "{}", {f32({kB, kL, 768}), f32({768})})), "f32[B,L]");
  EXPECT_EQ(text(infer("Gemm", R"({"transB":1})", {f32({kB, 8}), f32({3, 8}), f32({3})})),
            "f32[B,3]");
  const Fact x = f32({kB, kL, 8}), w = f32({8});
  const auto out = infer_all("LayerNormalization", "{}", {&x, &w, &w}, 3);
  EXPECT_EQ(text(out[1]), "f32[B,L,1]");
  EXPECT_EQ(text(infer("planck.Attention", R"({"heads":12})",
                       {f32({kB, kL, 768}), f32({kB, 12, kT, 64}), f32({kB, kT, 384})})),
            "f32[B,L,384]");
  EXPECT_EQ(text(infer("planck.Embedding", R"({"tables":2})",
                       {f32({100, 8}), value(DType::s64, {kB, kL}), f32({512, 8}),
                        value(DType::s64, {1, kL})})),
            "f32[B,L,8]");
}

TEST(Infer, SplitAndTopK) {
  const Fact x = f32({kB, 7}), k = known({3});
  const auto parts = infer_all("Split", R"({"axis":1,"num_outputs":3})", {&x}, 3);
  EXPECT_EQ(text(parts[0]) + text(parts[2]), "f32[B,3]f32[B,1]");
  EXPECT_EQ(text(infer_all("TopK", "{}", {&x, &k}, 2)[1]), "s64[B,3]");
  EXPECT_EQ(text(infer("NonZero", "{}", {x})), "s64[2,fresh1]");
}

// A hostile chain of products doubles the text of a Dim at every node.
TEST(Infer, RunawayExtentsBecomeFresh) {
  Fact x = f32({kL + 1, kT + 1});
  for (int i = 0; i < 20; ++i) {
    const Fact shape = shape_of(x);
    x = infer("Expand", "{}",
              {f32({1, 1}), shape.contents ? infer("Mul", "{}", {shape, shape}) : shape});
  }
  EXPECT_LE(x.type.dims[0].text().size(), 1000u);
}

struct Wrong {
  const char *op, *attrs;
  std::vector<Fact> in;
  const char* sentence;
};

TEST(Infer, ErrorsNameWhatWasExpectedAndGot) {
  const Wrong cases[] = {
      {"Softmax", R"({"axis":5})", {f32({kB, 2, 3})}, "axis 5 is outside [-3, 3)"},
      {"Softmax", "{}", {known({1})}, "Softmax: input 0 is s64[1], expected a float type"},
      {"Add", "{}", {f32({2}), known({1})}, "Add: input 1 is s64[1], expected f32 like input 0"},
      {"Add", "{}", {f32({2}), f32({3})}, "shapes [2] and [3] do not broadcast: 2 against 3"},
      {"Transpose", R"({"perm":[0,0]})", {f32({2, 3})}, "perm [0,0] is no permutation of 2 axes"},
      {"Squeeze", "{}", {f32({2, 3}), known({1})}, "Squeeze: axis 1 has extent 3, expected 1"},
      {"Unsqueeze", "{}", {f32({2}), known({0, 0})}, "axis 0 is given twice"},
      {"Reshape", "{}", {f32({2, 3}), known({4, -1})}, "Reshape: 6 elements do not divide by 4"},
      {"Reshape", "{}", {f32({2, 3}), known({-1, -1})}, "Reshape: the shape [-1,-1] has two -1"},
      {"Reshape",
       R"({"allowzero":1})",
       {f32({0, 3}), known({0, -1})},
       "Reshape: -1 beside an extent of 0 could be anything"},
      {"MatMul",
       "{}",
       {f32({2, 3}), f32({4, 5})},
       "MatMul: f32[2,3] and f32[4,5] differ in the summed extent: 3 against 4"},
      {"Gather", R"({"axis":2})", {f32({2, 3}), known({1})}, "axis 2 is outside [-2, 2)"},
      {"Gather", "{}", {f32({2, 3}), f32({1})}, "Gather: indices are f32[1], expected s32 or s64"},
      {"Concat",
       R"({"axis":0})",
       {f32({2, 3}), f32({2, 4})},
       "Concat: [2,3] and [2,4] differ on axis 1"},
      {"Cast", "{}", {f32({2})}, "Cast lacks its attribute to"},
      {"ConstantOfShape", "{}", {known({-2})}, "the shape [-2] has a negative extent"},
      {"Tile", "{}", {f32({2}), known({-1})}, "Tile: -1 is no extent"},
      {"Gelu",
       R"({"approximate":"erf"})",
       {f32({2})},
       "Gelu: approximate is 'erf', expected none or tanh"},
      {"planck.View", R"({"shape":[4]})", {f32({2, 3})}, "f32[2,3] has no view of shape [4]"},
      {"planck.Linear",
       R"({"activation":"cube"})",
       {f32({2, 3}), f32({3, 4})},
       "'cube' is no activation, expected relu, gelu, gelu_tanh, tanh, sigmoid, swish, hard_swish "
       "or "
       "''"},
      {"planck.Attention",
       R"({"heads":5})",
       {f32({2, 3, 8}), f32({2, 3, 8}), f32({2, 3, 8})},
       "Attention: input 0 is f32[2,3,8], whose width does not divide by 5 heads"},
  };
  for (const Wrong& c : cases) {
    std::vector<const Fact*> in;
    for (const Fact& f : c.in) in.push_back(&f);
    EXPECT_EQ(message_of<GraphError>([&] { infer_all(c.op, c.attrs, in); }), c.sentence) << c.op;
  }
}

}  // namespace
}  // namespace planck
