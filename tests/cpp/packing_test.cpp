// Constants on their way into a plan.
#include "backends/packing.h"

#include <gtest/gtest.h>

#include <vector>

#include "builder/select.h"

namespace planck {
namespace {

constexpr float kSubnormal = 1e-40F;

Tensor matrix(int64_t k, const std::vector<float>& weights) {
  const auto count = static_cast<int64_t>(weights.size());
  return Tensor::of<float>(DType::f32, {k, count / k}, weights);
}

std::vector<float> numbers(const Tensor& t) { return {t.as<float>(), t.as<float>() + t.count()}; }

// In a column of others as in one of their own.
TEST(Packing, SubnormalWeightsGoWhereOthersAreLarge) {
  const float at = -0x1p-100F;
  const Tensor w = matrix(2, {at, kSubnormal, 0x1p-126F, kSubnormal, -kSubnormal, 0});
  const std::vector<float> expected{at, 0, 0x1p-126F, 0, 0, 0};
  EXPECT_EQ(numbers(without_subnormals(w)), expected);
  EXPECT_EQ(numbers(without_subnormals(matrix(2, expected))), expected);
}

TEST(Packing, SubnormalWeightsStayWhereAllAreTiny) {
  const float below = 0x1.fffffep-101F;
  const Tensor w = matrix(2, {below, kSubnormal, -below, -kSubnormal});
  EXPECT_EQ(without_subnormals(w).data(), w.data());
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

}  // namespace
}  // namespace planck
