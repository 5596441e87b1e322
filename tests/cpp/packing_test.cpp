// Constants on their way into a plan.
#include "backends/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/checked.h"
#include "builder/one_op.h"
#include "builder/select.h"

namespace planck {
namespace {

constexpr float kSubnormal = 1e-40F;

Tensor matrix(int64_t k, const std::vector<float>& weights) {
  const auto count = static_cast<int64_t>(weights.size());
  return Tensor::of<float>(DType::f32, {k, count / k}, weights);
}

Tensor filled_with_ones(const Shape& shape) {
  const std::vector<float> ones(static_cast<size_t>(checked_count(shape)), 1);
  return Tensor::of<float>(DType::f32, shape, ones);
}

std::vector<float> numbers(const Tensor& t) { return {t.as<float>(), t.as<float>() + t.count()}; }

// Columns: live, tiny with a weight just below and one just at the limit, subnormal, none.
TEST(Packing, SubnormalWeightsGoWhereOthersAreLarge) {
  const float below = 0x1.fffffep-101F, at = -0x1p-100F;
  const Tensor w = matrix(3, {0.5F, below, at, kSubnormal, 0,                     //
                              kSubnormal, kSubnormal, kSubnormal, kSubnormal, 0,  //
                              -kSubnormal, -kSubnormal, -kSubnormal, -kSubnormal, 0x1p-126F});
  const std::vector<float> expected{0.5F, below,       at, kSubnormal,  0,  //
                                    0,    kSubnormal,  0,  kSubnormal,  0,  //
                                    0,    -kSubnormal, 0,  -kSubnormal, 0x1p-126F};
  EXPECT_EQ(numbers(without_subnormals(w)), expected);
  EXPECT_EQ(numbers(without_subnormals(matrix(3, expected))), expected);
}

TEST(Packing, WeightsWithoutSubnormalsAreNotCopied) {
  const Tensor w = matrix(2, {1, -0.0F, 0x1p-126F, 0});
  EXPECT_EQ(without_subnormals(w).data(), w.data());
}

// A plan that is packed anew for another processor has the same weights.
TEST(Packing, PackedAndUnpackedIsWithoutSubnormals) {
  const Tensor w = matrix(2, {1, kSubnormal, 3, kSubnormal, 2, kSubnormal});
  const std::string kernel(select_linear(3, 2, "").row->name);
  const PlanConstant once = packed("w", w, kernel);
  EXPECT_EQ(numbers(unpacked(once)), numbers(without_subnormals(w)));
  const PlanConstant again = packed("w", unpacked(once), kernel);
  EXPECT_EQ(numbers(again.tensor), numbers(once.tensor));
}

// Nor do they lose a column of nothing else, which python/test_windows.py shows.
TEST(Packing, ConvolutionsReadNoSubnormalWeights) {
  const std::vector<float> weights{1, kSubnormal, 2, kSubnormal, 1e-41F, 2e-41F};
  const Tensor w = Tensor::of<float>(DType::f32, {2, 3, 1, 1}, weights);
  const Tensor x = filled_with_ones({1, 3, 2, 2});
  const Plan plan = plan_one_op("planck.Convolution", Json::object(), {x, w}, 1, "");
  ASSERT_FALSE(plan.constants.empty());
  for (const PlanConstant& c : plan.constants) {
    for (const float v : numbers(unpacked(c))) {
      EXPECT_TRUE(v == 0 || std::fabs(v) >= 0x1p-126F) << v;
    }
  }
}

}  // namespace
}  // namespace planck
