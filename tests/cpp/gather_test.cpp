// Where the constants of a plan lie after they were gathered.
#include "builder/gather.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace planck {
namespace {

constexpr int64_t kLine = 64;

// A plan with a constant of so many floats for each count; a step for each reads it.
struct Readers {
  explicit Readers(const std::vector<int64_t>& counts) {
    for (const int64_t count : counts) add(count);
  }

  void add(int64_t count) {
    const auto index = static_cast<int32_t>(plan.constants.size());
    std::byte* bytes = nullptr;
    const Tensor tensor = Tensor::make(DType::f32, {count}, &bytes);
    auto* floats = reinterpret_cast<float*>(bytes);
    for (int64_t i = 0; i < count; ++i)
      floats[i] = static_cast<float>(i % 997) + static_cast<float>(index);
    plan.constants.push_back({"w", tensor, {.kernel = "some kernel"}});
    plan.buffers.push_back({.kind = BufferKind::constant, .index = index});
    plan.values.push_back({.buffer = index});
    plan.steps.push_back({});
    plan.steps.back().inputs = {index};
    before.push_back(tensor);
  }
  const Tensor& at(size_t i) const { return plan.constants[i].tensor; }
  void expect_same_numbers() const {
    for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at(i).same_bytes(before[i])) << i;
  }

  Plan plan;
  std::vector<Tensor> before;
};

TEST(Gather, ConstantsLieInTheOrderOfTheSteps) {
  Readers readers({300'001, 7, 400'000});
  std::swap(readers.plan.steps[0].inputs, readers.plan.steps[2].inputs);
  readers.plan.steps[1].inputs = {-1, 1, 1};
  gather_constants(readers.plan);
  readers.expect_same_numbers();
  const auto* first = readers.at(2).data();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % (2 << 20), 0);
  EXPECT_EQ(readers.at(1).data(), first + readers.at(2).bytes());
  EXPECT_EQ(readers.at(0).data(), readers.at(1).data() + kLine);
}

TEST(Gather, WhatHasPagesOfItsOwnOrIsNotReadStays) {
  Readers readers({600'000, 1 << 20, 100'000, 50'000});
  readers.plan.steps[2].inputs = {0};                // nobody reads constant 2
  readers.plan.constants[3].packing.kernel.clear();  // small enough all the same
  gather_constants(readers.plan);
  readers.expect_same_numbers();
  EXPECT_NE(readers.at(0).data(), readers.before[0].data());
  EXPECT_EQ(readers.at(1).data(), readers.before[1].data());
  EXPECT_EQ(readers.at(2).data(), readers.before[2].data());
  EXPECT_NE(readers.at(3).data(), readers.before[3].data());
}

TEST(Gather, LargeOnesThatAreNotPackedStay) {
  Readers readers({600'000, 100'000});
  readers.plan.constants[1].packing.kernel.clear();
  gather_constants(readers.plan);
  EXPECT_EQ(readers.at(1).data(), readers.before[1].data());
  readers.expect_same_numbers();
}

TEST(Gather, AFewSmallOnesAreLeftAlone) {
  Readers readers({1000, 2000});
  gather_constants(readers.plan);
  EXPECT_EQ(readers.at(0).data(), readers.before[0].data());
  EXPECT_EQ(readers.at(1).data(), readers.before[1].data());
}

}  // namespace
}  // namespace planck
