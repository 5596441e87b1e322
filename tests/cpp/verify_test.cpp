// Plans whose types a damaged file has changed: the verifier names what no kernel would take.
#include "backends/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "backends/packing.h"
#include "builder/one_op.h"
#include "kernels/qmatmul/rows.h"

namespace planck {
namespace {

Plan dequantizes() {
  constexpr std::array<uint8_t, 6> kBytes = {0, 1, 2, 128, 254, 255};
  const Tensor x = Tensor::of<uint8_t>(DType::u8, {2, 3}, kBytes);
  return plan_one_op("DequantizeLinear", Json::object(), {x, Tensor::scalar(0.5F)}, 1, "");
}

// As a file says it: the value, its buffer, its port.
void retype(Plan& plan, int32_t id, DType dtype) {
  PlanValue& v = plan.values[static_cast<size_t>(id)];
  v.dtype = dtype;
  plan.buffers[static_cast<size_t>(v.buffer)].element_size = size_of(dtype);
  for (auto* ports : {&plan.inputs, &plan.outputs}) {
    for (PlanPort& p : *ports) {
      if (p.value == id) p.dtype = dtype;
    }
  }
}

void expect_refused(const Plan& plan, const std::string& why) {
  try {
    verify_plan(plan);
    FAIL() << "taken, though " << why;
  } catch (const CorruptError& e) {
    EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
  }
}

TEST(Verify, TypesOfPrograms) {
  const Plan good = dequantizes();
  ASSERT_EQ(family(good.steps.at(0).params), "eltwise");
  verify_plan(good);
  for (const DType dtype : {DType::s8, DType::b8, DType::s32, DType::f32}) {
    Plan plan = good;
    retype(plan, plan.steps[0].inputs[0], dtype);
    verify_plan(plan);  // another meaning, but a program reads it
  }
  for (const DType dtype : {DType::u16, DType::s64, DType::f16}) {
    Plan plan = good;
    retype(plan, plan.steps[0].inputs[0], dtype);
    expect_refused(plan, cat("reads ", dtype));
  }
  for (const DType dtype : {DType::s32, DType::s64, DType::f16}) {
    Plan plan = good;
    retype(plan, plan.steps[0].outputs[0], dtype);
    expect_refused(plan, cat("writes ", dtype));
  }
}

TEST(Verify, ProgramsOfValuesThatAreNotThere) {
  Plan plan = dequantizes();
  plan.steps[0].inputs[0] = 77;
  expect_refused(plan, "value 77");
  plan = dequantizes();
  plan.steps[0].outputs[0] = -5;
  expect_refused(plan, "value -5");
}

// Integer weights whose pairs of products stay inside 16 bits, as the kernel may rely on, until a
// file says other weights under the same proof.
TEST(Verify, ProofsOfIntegerWeights) {
  constexpr int64_t kN = 20, kK = 9;
  const std::vector<int8_t> small(kN * kK, 3), large(kN * kK, 127);
  for (const QmatmulRow& row : qmatmul_rows()) {
    const std::string kernel(row.name);
    Plan plan;
    plan.constants = {packed_codes("w", large, kN, kK, kernel)};
    verify_plan(plan);
    plan.constants = {packed_codes("w", small, kN, kK, kernel)};
    verify_plan(plan);
    const Tensor honest = plan.constants[0].tensor;
    std::byte* bytes = nullptr;
    Tensor forged = Tensor::make(DType::s8, honest.shape(), &bytes);
    std::copy_n(honest.data(), honest.bytes(), bytes);
    bytes[0] = bytes[1] = std::byte{127};  // the first pair: 255 * 127 twice
    plan.constants[0].tensor = forged;
    if (row.unit == QmatmulUnit::pairs) {
      expect_refused(plan, "'w' is packed for 'qmatmul_u8s8s32_6x16x4_avx2' and says");
    } else {
      verify_plan(plan);  // other weights, but no row that relies on their size
    }
  }
}

}  // namespace
}  // namespace planck
