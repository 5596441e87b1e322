// The table of ops, the door to references, and references on small cases worked by hand. Cases
// against ONNX's own evaluator are in tests/ops.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "ops/product.h"
#include "ops_fixture.h"

namespace planck {
namespace {

using Reals = std::vector<double>;
using Ints = std::vector<int64_t>;
constexpr double kInf = std::numeric_limits<double>::infinity();

struct Row {
  std::string name, file;
  int version;
};

const Row kRows[] = {
#define PLANCK_OP_ROW(Op, version, file) {#Op, file, version},
#include "ops/ops.inc"
#undef PLANCK_OP_ROW
};

std::filesystem::path ops_folder() {
  return std::filesystem::path(__FILE__).parent_path() / "../../cpp/ops";
}

TEST(OpTable, RowsAreAlphabeticalAndInTheFileTheyName) {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (i > 0) {
      EXPECT_LT(kRows[i - 1].name, kRows[i].name);
    }
    std::ifstream file(ops_folder() / kRows[i].file);
    std::stringstream source;
    source << file.rdbuf();
    EXPECT_NE(source.str().find("(" + kRows[i].name), std::string::npos)
        << kRows[i].name << " is not in " << kRows[i].file;
  }
}

TEST(OpTable, EveryOpOfTheFolderHasARow) {
  std::set<std::string> listed;
  for (const Row& row : kRows) listed.insert(row.file);
  for (const auto& entry : std::filesystem::directory_iterator(ops_folder())) {
    if (entry.path().extension() != ".cpp") continue;
    std::ifstream file(entry.path());
    std::stringstream source;
    source << file.rdbuf();
    const bool defines = source.str().find("\nPLANCK_OP(") != std::string::npos ||
                         source.str().find("\nPLANCK_OWN_OP(") != std::string::npos;
    EXPECT_TRUE(!defines || listed.contains(entry.path().filename().string())) << entry.path();
  }
}

TEST(OpTable, VersionsAgreeAndAttributesSurviveJson) {
  for (const Row& row : kRows) {
    const OpDef& def = builtin_ops().at(row.version == 0 ? "planck." + row.name : row.name);
    EXPECT_EQ(def.version, row.version) << row.name;
    const Json defaults = def.print(def.parse(Json::object()).get());
    EXPECT_EQ(def.print(def.parse(defaults).get()), defaults) << row.name;
    EXPECT_NE(message_of<GraphError>([&] { def.parse(Json{{"no_such", 1}}); }), "");
  }
}

TEST(Evaluate, ChecksArityWrapsIntegersAndLimitsSizes) {
  const Wide a = ints({1}, {127}, DType::s8), b = ints({1}, {1}, DType::s8);
  EXPECT_EQ(call("Add", "{}", {a, b}).integer, Ints{-128});
  EXPECT_EQ(message_of<GraphError>([&] { call("Add", "{}", {a}); }), "Add takes 2 inputs, got 1");
  EXPECT_NE(message_of<LimitError>([&] {
              call("ConstantOfShape", "{}", {ints({2}, {1 << 20, 1 << 20})});
            }).find("max_tensor_bytes"),
            std::string::npos);
  EXPECT_NE(message_of<LimitError>([&] {
              call("ConstantOfShape", "{}", {ints({2}, {INT64_MAX, 0})});
            }),
            "");
  EXPECT_NE(message_of<LimitError>([&] {
              call("Add", "{}", {Wide(DType::f32, {1 << 15, 1}), Wide(DType::f32, {1, 1 << 15})});
            }),
            "");
}

TEST(Integers, DivisionAndRemainderFollowOnnx) {
  const Wide a = ints({4}, {7, -7, 7, -7}), b = ints({4}, {2, 2, -2, -2});
  EXPECT_EQ(call("Div", "{}", {a, b}).integer, (Ints{3, -3, -3, 3}));
  EXPECT_EQ(call("Mod", "{}", {a, b}).integer, (Ints{1, 1, -1, -1}));
  EXPECT_EQ(call("Mod", R"({"fmod":1})", {a, b}).integer, (Ints{1, -1, 1, -1}));
  EXPECT_EQ(message_of<RunError>([] {
              call("Div", "{}", {ints({}, {1}), ints({}, {0})});
            }),
            "an integer is divided by zero");
  const Wide low = ints({}, {INT64_MIN}), minus = ints({}, {-1});
  EXPECT_EQ(call("Div", "{}", {low, minus}).integer, Ints{INT64_MIN});
  EXPECT_EQ(call("Mod", "{}", {low, minus}).integer, Ints{0});
  EXPECT_EQ(call("Abs", "{}", {low}).integer, Ints{INT64_MIN});
}

TEST(Integers, UnsignedSixtyFourBitsStayUnsigned) {
  const Wide big = ints({}, {-1}, DType::u64), two = ints({}, {2}, DType::u64);
  EXPECT_EQ(call("Div", "{}", {big, two}).integer, Ints{INT64_MAX});
  EXPECT_EQ(call("Greater", "{}", {big, two}).integer, Ints{1});
  EXPECT_EQ(call("Cast", R"({"to":11})", {big}).real, Reals{0x1p64});
  EXPECT_EQ(call("ReduceMax", "{}", {ints({2}, {-1, 5}, DType::u64)}).integer, Ints{-1});
  EXPECT_EQ(call("Div", "{}", {big, big}).integer, Ints{1});
}

TEST(Elementwise, BroadcastsBothWays) {
  const Wide y = call("Add", "{}", {reals({2, 1}, {10, 20}), reals({1, 3}, {1, 2, 3})});
  EXPECT_EQ(y.shape, (Shape{2, 3}));
  EXPECT_EQ(y.real, (Reals{11, 12, 13, 21, 22, 23}));
  EXPECT_NE(message_of<RunError>([] {
              call("Add", "{}", {reals({2}, {1, 2}), reals({3}, {1, 2, 3})});
            }),
            "");
}

TEST(Elementwise, NanAndInfinity) {
  const Wide x = reals({3}, {NAN, 1, kInf});
  const Wide y = call("Max", "{}", {x, reals({}, {2})});
  EXPECT_TRUE(std::isnan(y.real[0]));
  EXPECT_EQ(y.real[1], 2);
  EXPECT_EQ(call("IsNaN", "{}", {x}).integer, (Ints{1, 0, 0}));
  EXPECT_EQ(call("Sigmoid", "{}", {reals({2}, {-1000, 1000})}).real, (Reals{0, 1}));
  EXPECT_EQ(call("Softplus", "{}", {reals({2}, {-1000, 1000})}).real, (Reals{0, 1000}));
}

TEST(Cast, TruncatesSaturatesAndRounds) {
  const Wide x = reals({5}, {-1.9, 2.9, NAN, 1e30, -1e30});
  EXPECT_EQ(call("Cast", R"({"to":6})", {x}).integer, (Ints{-1, 2, 0, INT32_MAX, INT32_MIN}));
  EXPECT_EQ(call("Cast", R"({"to":2})", {x}).integer, (Ints{0, 2, 0, 255, 0}));
  EXPECT_EQ(call("Cast", R"({"to":9})", {x}).integer, (Ints{1, 1, 1, 1, 1}));
  EXPECT_EQ(call("Cast", R"({"to":1})", {ints({}, {16777217})}).real, Reals{16777216});
  EXPECT_EQ(call("Cast", R"({"to":10})", {reals({}, {2049})}).real, Reals{2048});
  EXPECT_NE(message_of<UnsupportedError>([&] { call("Cast", R"({"to":8})", {x}); }), "");
}

TEST(Quantize, NanIsTheLowestAndInfinitiesSaturate) {
  const Wide x = reals({7}, {NAN, -kInf, kInf, 3e9, 0.5, 1.5, 2.5});
  const Wide one = reals({}, {1});
  const auto quantised = [&](DType type, int64_t zero) {
    Wide z(type, {});
    z.integer = {zero};
    return call("QuantizeLinear", "{}", {x, one, z}).integer;
  };
  EXPECT_EQ(quantised(DType::s8, 0), (Ints{-128, -128, 127, 127, 0, 2, 2}));
  EXPECT_EQ(quantised(DType::u8, 7), (Ints{0, 0, 255, 255, 7, 9, 9}));
  EXPECT_EQ(quantised(DType::s16, 0), (Ints{-32768, -32768, 32767, 32767, 0, 2, 2}));
}

TEST(Softmax, RowsSumToOneAndMaskedRowsAreNan) {
  const Wide y = call("Softmax", "{}", {reals({2, 2}, {1000, 1000, -kInf, -kInf})});
  EXPECT_EQ(y.real[0], 0.5);
  EXPECT_TRUE(std::isnan(y.real[2]));
}

TEST(Reduce, AxesEmptyMeansAllOrNone) {
  const Wide x = reals({2, 2}, {1, 2, 3, 4});
  const Wide none = ints({0}, {});
  EXPECT_EQ(call("ReduceSum", R"({"keepdims":0})", {x, none}).real, Reals{10});
  EXPECT_EQ(call("ReduceSumSquare", R"({"noop_with_empty_axes":1})", {x, none}).real,
            (Reals{1, 4, 9, 16}));
  EXPECT_EQ(call("ReduceMean", "{}", {x, ints({1}, {-2})}).real, (Reals{2, 3}));
  EXPECT_EQ(call("ReduceMax", R"({"keepdims":0})", {Wide(DType::f32, {2, 0}), ints({1}, {1})}).real,
            (Reals{-kInf, -kInf}));
}

TEST(Gather, NamesABadIndexAndItsRange) {
  const Wide table = reals({3, 2}, {0, 1, 10, 11, 20, 21});
  EXPECT_EQ(call("Gather", "{}", {table, ints({2}, {-1, 1})}).real, (Reals{20, 21, 10, 11}));
  EXPECT_EQ(message_of<RunError>([&] {
              call("Gather", "{}", {table, ints({1}, {3})});
            }),
            "index 3 is outside [-3, 3)");
  EXPECT_EQ(message_of<RunError>([&] {
              call("planck.Embedding", "{}", {table, ints({1}, {-4})});
            }),
            "index -4 is outside [-3, 3)");
}

TEST(Slice, ClampsAndGoesBackwards) {
  const Wide x = reals({5}, {0, 1, 2, 3, 4});
  const auto slice = [&](int64_t from, int64_t to, int64_t step) {
    return call("Slice", "{}",
                {x, ints({1}, {from}), ints({1}, {to}), ints({1}, {0}), ints({1}, {step})})
        .real;
  };
  EXPECT_EQ(slice(-2, INT64_MAX, 1), (Reals{3, 4}));
  EXPECT_EQ(slice(-9, -1, 2), (Reals{0, 2}));
  EXPECT_EQ(slice(-1, INT64_MIN, -2), (Reals{4, 2, 0}));
  EXPECT_EQ(slice(3, 3, 1), Reals{});
  EXPECT_EQ(slice(4, INT64_MIN, INT64_MIN), Reals{4});
  EXPECT_EQ(slice(0, INT64_MAX, INT64_MAX), Reals{0});
}

TEST(Product, EqualsThePlainLoop) {
  for (const ProductSize s : {ProductSize{1, 1, 1}, {3, 5, 0}, {7, 13, 65}, {64, 33, 130}}) {
    const Wide a = normal({s.m, s.k}, 1), b = normal({s.k, s.n}, 2);
    std::vector<double> c(static_cast<size_t>(s.m * s.n), NAN);
    product(a.real.data(), b.real.data(), c.data(), s);
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < s.k; ++k) sum += a.real[i * s.k + k] * b.real[k * s.n + j];
        EXPECT_NEAR(c[i * s.n + j], sum, 1e-12);
      }
    }
  }
}

TEST(MatMul, VectorsAndBroadcastBatches) {
  const Wide m = reals({2, 2}, {1, 2, 3, 4}), v = reals({2}, {10, 1});
  EXPECT_EQ(call("MatMul", "{}", {m, v}).real, (Reals{12, 34}));
  EXPECT_EQ(call("MatMul", "{}", {v, m}).real, (Reals{13, 24}));
  EXPECT_EQ(call("MatMul", "{}", {v, v}).shape, Shape{});
  const Wide batch = call("MatMul", "{}", {normal({2, 1, 3, 4}, 1), normal({5, 4, 2}, 2)});
  EXPECT_EQ(batch.shape, (Shape{2, 5, 3, 2}));
  EXPECT_EQ(call("MatMul", "{}", {ints({1, 2}, {1, 2}), ints({2, 1}, {3, 4})}).integer, Ints{11});
}

TEST(Ours, ShapesComeFromTheBinding) {
  const Wide x = normal({2, 6}, 1);
  const Bindings bindings = {{"B", 2}, {"L", 3}};
  EXPECT_EQ(call_all("planck.View", R"({"shape":["B","L",2]})", {&x}, 1, bindings)[0].shape,
            (Shape{2, 3, 2}));
  const Wide crop =
      call_all("planck.Crop", R"({"axes":[1],"starts":[1],"ends":["L+2"],"steps":[2]})", {&x}, 1,
               bindings)[0];
  EXPECT_EQ(crop.real, (Reals{x.real[1], x.real[3], x.real[7], x.real[9]}));
  EXPECT_EQ(message_of<RunError>([&] {
              call_all("planck.Crop", R"({"axes":[1],"starts":[0],"ends":["3*L"],"steps":[1]})",
                       {&x}, 1, bindings);
            }),
            "Crop: [0, 9) is outside [0, 6)");
  EXPECT_EQ(call_all("planck.Fill", R"({"shape":["L"],"value":2.5})", {}, 1, bindings)[0].real,
            (Reals{2.5, 2.5, 2.5}));
}

}  // namespace
}  // namespace planck
