// Plans whose types a damaged file has changed: the verifier names what no kernel would take.
#include "backends/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "backends/packing.h"
#include "base/checked.h"
#include "builder/one_op.h"
#include "kernels/qmatmul/rows.h"
#include "passes/tools.h"

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
      expect_refused(plan, "'w' is packed for 'qmatmul_u8s8s32_4x16x4_avx2' and says");
    } else if (is_winograd(row.unit)) {
      expect_refused(plan, cat("'w' is packed for '", kernel, "' and is no transform"));
    } else {
      verify_plan(plan);  // other weights, but no row that relies on their size
    }
  }
}

int32_t add_value(Plan& plan, BufferKind kind, int32_t index, DType dtype, const Shape& shape) {
  const auto buffer = static_cast<int32_t>(plan.buffers.size());
  plan.buffers.push_back({kind, index, Dim(checked_count(shape)), size_of(dtype)});
  PlanValue value;
  value.dtype = dtype, value.buffer = buffer;
  int64_t stride = checked_count(shape);
  for (const int64_t extent : shape) {
    stride /= extent;
    value.shape.emplace_back(extent), value.strides.emplace_back(stride);
  }
  plan.values.push_back(value);
  return static_cast<int32_t>(plan.values.size()) - 1;
}
int32_t add_constant(Plan& plan, DType dtype, const Shape& shape) {
  std::byte* bytes = nullptr;
  Tensor zeros = Tensor::make(dtype, shape, &bytes);
  std::fill_n(bytes, zeros.bytes(), std::byte{0});
  plan.constants.push_back({cat("c", plan.constants.size()), zeros, {}});
  const auto index = static_cast<int32_t>(plan.constants.size()) - 1;
  return add_value(plan, BufferKind::constant, index, dtype, shape);
}

// A 3x3 depthwise convolution of 5 channels.
Plan convolves() {
  Plan plan;
  const Shape picture{1, 4, 6, 5};
  const int32_t x = add_value(plan, BufferKind::input, 0, DType::u8, picture);
  const int32_t y = add_value(plan, BufferKind::output, 0, DType::f32, picture);
  const PlanValue &in = plan.values[0], &out = plan.values[1];
  plan.inputs = {{"x", DType::u8, in.shape, x}};
  plan.outputs = {{"y", DType::f32, out.shape, y}};
  const int32_t w = add_constant(plan, DType::s8, {45});
  const int32_t offset = add_constant(plan, DType::s32, {5});
  const int32_t multiplier = add_constant(plan, DType::f32, {5});
  const WindowParams three{.kernel = 3, .begin = 1};
  plan.steps = {{.op = "planck.Convolution",
                 .params = QDepthwiseParams{{three, three}, 7, {}, {}},
                 .inputs = {x, w, offset, multiplier, -1, -1},
                 .outputs = {y},
                 .kernel = "qdepthwise_u8s8s32_portable"}};
  return plan;
}

// A convolution of 6 channels of floats in three parts, one of which is repeated.
Plan convolves_parts() {
  Plan plan;
  const Shape small{1, 2, 3, 2}, whole{1, 4, 6, 2}, picture{1, 4, 6, 5};
  std::vector<int32_t> x;
  for (const Shape& shape : {small, whole, whole}) {
    const auto port = static_cast<int32_t>(x.size());
    x.push_back(add_value(plan, BufferKind::input, port, DType::f32, shape));
    plan.inputs.push_back(
        {cat("x", port), DType::f32, plan.values[static_cast<size_t>(x.back())].shape, x.back()});
  }
  const int32_t y = add_value(plan, BufferKind::output, 0, DType::f32, picture);
  plan.outputs = {{"y", DType::f32, plan.values[static_cast<size_t>(y)].shape, y}};
  const std::string kernel = "matmul_f32f32f32_1x16x1_portable";
  const std::vector<float> weights(54 * 5, 0.5F);
  const int32_t w = add_constant(plan, DType::f32, {54 * 16});
  plan.constants[0] = packed("w", Tensor::of<float>(DType::f32, {54, 5}, weights), kernel);
  const WindowParams three{.kernel = 3, .begin = 1};
  plan.steps = {{.op = "planck.Convolution",
                 .params = ConvParams{5, 6, {three, three}, {}, {2, 1, 1}},
                 .inputs = {x[0], w, -1, -1, x[1], x[2]},
                 .outputs = {y},
                 .kernel = kernel}};
  return plan;
}

TEST(Verify, PartsOfConvolutions) {
  const Plan good = convolves_parts();
  verify_plan(good);
  const auto refused = [&](const auto& change, const std::string& why) {
    Plan plan = good;
    change(plan.steps[0], std::get<ConvParams>(plan.steps[0].params));
    expect_refused(plan, why);
  };
  refused([](Step&, ConvParams& p) { p.repeats[1] = 0; }, "it repeats a part 0 times");
  refused([](Step&, ConvParams& p) { p.repeats[2] = int64_t{1} << 40; }, "it repeats a part");
  refused([](Step&, ConvParams& p) { p.repeats.assign(17, 1); }, "it reads 17 parts");
  refused([](Step&, ConvParams& p) { p.windows.assign(1, {.kernel = 9}); }, "it reads 3 parts");
  refused([](Step&, ConvParams& p) { p.repeats.pop_back(); }, "inputs");
  refused([](Step&, ConvParams& p) { p.repeats.clear(); }, "inputs");
  refused([](Step& s, ConvParams&) { s.inputs.pop_back(); }, "inputs");
  refused([](Step& s, ConvParams&) { s.inputs[4] = -1; }, "it reads value -1");
  refused([](Step& s, ConvParams&) { s.inputs[5] = 99; }, "it reads value 99");
}

// An LSTM of 5 units, 2 steps of 3 samples, both directions.
Plan walks() {
  Plan plan;
  const RecurrentParams params{.kind = RecurrentKind::lstm, .hidden = 5, .sides = 2};
  const RecurrentSizes sizes = params.sizes();
  const int32_t x = add_value(plan, BufferKind::input, 0, DType::f32,
                              {2, 3, params.sides * sizes.side_columns()});
  const int32_t y = add_value(plan, BufferKind::output, 0, DType::f32, {2, 2, 3, 5});
  plan.inputs = {{"x", DType::f32, plan.values[static_cast<size_t>(x)].shape, x}};
  plan.outputs = {{"y", DType::f32, plan.values[static_cast<size_t>(y)].shape, y}};
  const std::string kernel = "matmul_f32f32f32_1x16x1_portable";
  const std::vector<float> weights(static_cast<size_t>(5 * params.n()), 0.5F);
  const int32_t w = add_constant(plan, DType::f32, {5 * params.n()});
  plan.constants[0] = packed("w", Tensor::of<float>(DType::f32, {5, params.n()}, weights), kernel);
  const int32_t states =
      add_value(plan, BufferKind::arena, 0, DType::f32, {3, 2, 3, sizes.pitch()});
  plan.steps = {{.op = "LSTM",
                 .params = params,
                 .inputs = {x, w, -1, -1, -1, -1},
                 .outputs = {y, -1, -1, states},
                 .kernel = kernel}};
  return plan;
}

TEST(Verify, RecurrentLayers) {
  const Plan good = walks();
  verify_plan(good);
  const auto refused = [&](const auto& change, const std::string& why) {
    Plan plan = good;
    change(plan.steps[0], std::get<RecurrentParams>(plan.steps[0].params));
    expect_refused(plan, why);
  };
  refused([](Step&, RecurrentParams& p) { p.hidden = 0; }, "it has 0 hidden units");
  refused([](Step&, RecurrentParams& p) { p.hidden = int64_t{1} << 40; }, "hidden units");
  refused([](Step&, RecurrentParams& p) { p.hidden = 6; }, "packed for another");
  refused([](Step&, RecurrentParams& p) { p.sides = 3; }, "it has 3 directions");
  refused([](Step&, RecurrentParams& p) { p.sides = 1; }, "packed for another");
  refused([](Step&, RecurrentParams& p) { p.kind = RecurrentKind::gru; }, "packed for another");
  refused([](Step& s, RecurrentParams& p) { p.kind = RecurrentKind::gru, s.inputs[4] = 0; },
          "it has a cell");
  refused([](Step& s, RecurrentParams& p) { p.kind = RecurrentKind::gru, s.inputs[2] = 0; },
          "what its kind does not");
  refused([](Step& s, RecurrentParams&) { s.inputs.pop_back(); }, "inputs");
  refused([](Step& s, RecurrentParams&) { s.inputs[1] = s.inputs[0]; }, "no constant");
  refused([](Step& s, RecurrentParams&) { s.inputs[5] = 99; }, "value 99");
  refused([](Step& s, RecurrentParams&) { s.outputs.pop_back(); }, "outputs");
  refused([](Step& s, RecurrentParams&) { s.outputs[3] = -1; }, "value -1");
  refused([](Step& s, RecurrentParams&) { s.kernel = "matmul_f32f32f32_8x8x1_avx2"; },
          "packed for another");
  Plan plan = good;  // lanes of rows, which its columns would fill one by one
  plan.steps[0].kernel = "matmul_f32f32f32_8x8x1_avx2";
  const int64_t n = std::get<RecurrentParams>(plan.steps[0].params).n();
  plan.constants[0] = packed("w", unpacked(good.constants[0]), plan.steps[0].kernel);
  EXPECT_EQ(plan.constants[0].packing.n, n);
  expect_refused(plan, "does not take its weights");
}

TEST(Verify, DepthwiseConvolutionsOfBytes) {
  const Plan good = convolves();
  verify_plan(good);
  Plan plan = good;
  auto& params = std::get<QDepthwiseParams>(plan.steps[0].params);
  params.zero = 256;
  expect_refused(plan, "256 is no byte");
  params.zero = 0, params.requantize = {true, 0, 9, 8};
  expect_refused(plan, "the wrong way round");
  params.requantize = {}, params.windows[1].kernel = 129;
  expect_refused(plan, "129 taps in a row");
  plan = good;
  plan.steps[0].inputs[1] = plan.steps[0].inputs[0];  // weights that a run alone knows
  expect_refused(plan, "no constant of int8");
  plan = good;
  plan.values[static_cast<size_t>(plan.steps[0].inputs[1])].offset = Dim(1);
  expect_refused(plan, "no constant of int8");
  plan = good;
  plan.values[static_cast<size_t>(plan.steps[0].inputs[1])].shape = {Dim(1000)};
  expect_refused(plan, "the form of its kernel");
  plan = good;
  plan.steps[0].inputs[3] = -1;
  expect_refused(plan, "reads value -1");
  plan = good;
  plan.steps[0].kernel = "qmatmul_u8s8s32_1x16x4_portable";
  expect_refused(plan, "no kernel of its family");
}

TEST(Verify, SamplesOfPictures) {
  const Tensor x = filled(DType::f32, {1, 2, 4, 4}, 1);
  const Plan grid =
      plan_one_op("GridSample", Json::object(), {x, filled(DType::f32, {1, 3, 3, 2}, 0)}, 1, "");
  ASSERT_EQ(family(grid.steps.at(0).params), "grid_sample");
  verify_plan(grid);
  Plan plan = grid;
  plan.steps[0].inputs.pop_back();
  expect_refused(plan, "it has 1 inputs");
  plan = grid;
  plan.steps[0].inputs[1] = -1;
  expect_refused(plan, "reads value -1");
  plan = grid;
  plan.steps[0].kernel = "resample_f32_portable";
  expect_refused(plan, "no kernel of its family");
  const Plan regions =
      plan_one_op("RoiAlign", Json::object(),
                  {x, filled(DType::f32, {3, 4}, 0), filled(DType::s64, {3}, 0)}, 1, "");
  ASSERT_EQ(family(regions.steps.back().params), "roi_align");
  for (const int64_t samples : {int64_t{-1}, int64_t{65}, INT64_MAX}) {
    plan = regions;
    std::get<RoiAlignParams>(plan.steps.back().params).samples = samples;
    expect_refused(plan, cat("it takes ", samples, " samples"));
  }
  const Plan lrn = plan_one_op("LRN", Json{{"size", 3}}, {x}, 1, "");
  ASSERT_EQ(family(lrn.steps.at(0).params), "lrn");
  for (const int64_t bad : {int64_t{-1}, int64_t{0}, INT64_MAX}) {
    plan = lrn;
    std::get<LrnParams>(plan.steps[0].params).size = bad;
    expect_refused(plan, cat("it reads ", bad, " channels"));
  }
  plan = lrn;
  std::get<LrnParams>(plan.steps[0].params).axis = -1;
  expect_refused(plan, "along axis -1");
}

// A 3x3 convolution of 5 channels by a kernel of pairs, which takes neither other windows nor
// products, nor weights that are half as long.
TEST(Verify, WindowsOfPairs) {
  Plan good = convolves();
  const WindowParams three{.kernel = 3, .begin = 1};
  const std::string kernel = "matmul_f32f32f32_16x24x1_avx512";
  std::byte* bytes = nullptr;
  const Tensor matrix = Tensor::make(DType::f32, {45, 5}, &bytes);
  std::fill_n(bytes, matrix.bytes(), std::byte{0});
  const int32_t weight = good.steps[0].inputs[1];
  good.constants[0] = packed("w", matrix, kernel);
  PlanBuffer& buffer =
      good.buffers[static_cast<size_t>(good.values[static_cast<size_t>(weight)].buffer)];
  buffer = {BufferKind::constant, 0, Dim(good.constants[0].tensor.count()), 4};
  good.values[static_cast<size_t>(weight)].dtype = DType::f32;
  good.values[static_cast<size_t>(weight)].shape = {buffer.elements};
  retype(good, good.steps[0].inputs[0], DType::f32);
  good.steps[0].inputs = {good.steps[0].inputs[0], weight, -1, -1};
  ConvParams params{5, 5, {three, three}, {}, {}};
  good.steps[0].params = params;
  good.steps[0].kernel = kernel;
  verify_plan(good);
  ASSERT_EQ(good.constants[0].tensor.count(), 45 * 24 * 2);
  for (int i = 0; i < 4; ++i) {
    WindowParams other = three;
    (i == 0 ? other.stride : i == 1 ? other.dilation : other.begin) = i == 0 ? 4 : i == 1 ? 2 : 3;
    if (i == 3) other = {.kernel = 3, .begin = -1};
    Plan plan = good;
    std::get<ConvParams>(plan.steps[0].params).windows[static_cast<size_t>(i) % 2] = other;
    expect_refused(plan, i == 3 ? "begin" : "does not take its windows");
  }
  Plan plan = good;
  plan.steps[0].params = LinearParams{5, 45, {}};
  expect_refused(plan, "no kernel of its family");
  plan.steps[0].params = WinogradParams{5, 5, 1, 1, {}};
  expect_refused(plan, "no kernel of its family");
  plan = good;
  plan.constants[0].packing.kernel = "matmul_f32f32f32_4x24x1_avx2";
  expect_refused(plan, "does not have the size of its packing");
}

// A 3x3 convolution of 5 channels by Winograd: its kernel reads windows of no other kind.
TEST(Verify, WindowsOfWinograd) {
  Plan good = convolves();
  const WindowParams three{.kernel = 3, .begin = 1};
  const std::string kernel = "qmatmul_u8s8s32_1x16x2_portablewinograd4";
  const std::vector<int8_t> codes(5 * 45, 3);
  const int32_t weight = good.steps[0].inputs[1];
  good.constants[0] = packed_codes("w", codes, 5, 45, kernel);
  const Dim bytes(good.constants[0].tensor.count());
  good.buffers[static_cast<size_t>(good.values[static_cast<size_t>(weight)].buffer)].elements =
      bytes;
  good.values[static_cast<size_t>(weight)].shape = {bytes};
  QProductParams params{5, 5, {three, three}, 7, {}, {}};
  good.steps[0].params = params;
  good.steps[0].kernel = kernel;
  verify_plan(good);
  const auto refused = [&](std::vector<WindowParams> windows) {
    Plan plan = good;
    params.windows = std::move(windows);
    plan.steps[0].params = params;
    expect_refused(plan, "windows of 3 x 3 with stride 1 alone");
  };
  WindowParams other = three;
  other.stride = 2;
  refused({three, other});
  other = three, other.dilation = 2;
  refused({other, three});
  refused({{.kernel = 9}});
  other = three, other.kernel = 1;
  WindowParams nine = three;
  nine.kernel = 9;
  refused({other, nine});  // as many taps
  Plan plan = good;
  plan.constants[0].packing.k = 9 * 7;
  expect_refused(plan, "does not have the size of its packing");
  for (const int64_t k : {44, 46, 54}) {  // as many bytes
    plan.constants[0].packing.k = k;
    expect_refused(plan, k == 54 ? "packed for another" : "is no transform of weights");
  }
}

// y = x W * gate + rest: a program that reads two operands besides the product.
TEST(Verify, OperandsOfPrograms) {
  constexpr int64_t kN = 16, kK = 3;
  const std::string kernel = "matmul_f32f32f32_1x16x1_portable";
  Plan good;
  const int32_t x = add_value(good, BufferKind::input, 0, DType::f32, {2, 4, kK});
  const int32_t gate = add_value(good, BufferKind::input, 1, DType::f32, {2, 1, kN});
  const int32_t rest = add_value(good, BufferKind::input, 2, DType::f32, {2, 4, kN});
  const int32_t y = add_value(good, BufferKind::output, 0, DType::f32, {2, 4, kN});
  for (const int32_t v : {x, gate, rest}) {
    good.inputs.push_back({cat("x", v), DType::f32, good.values[static_cast<size_t>(v)].shape, v});
  }
  good.outputs = {{"y", DType::f32, good.values[static_cast<size_t>(y)].shape, y}};
  const std::vector<float> ones(kN * kK, 1.0F);
  const auto w = static_cast<int32_t>(good.constants.size());
  good.constants.push_back(packed("w", Tensor::of<float>(DType::f32, {kK, kN}, ones), kernel));
  const int32_t weight =
      add_value(good, BufferKind::constant, w, DType::f32, {good.constants[0].tensor.count()});
  LinearParams params{kN, kK, {}};
  params.then.operands.assign(3, Broadcast::none);
  const int16_t scaled =
      params.then.apply(TileOp::mul, params.then.operand(0), params.then.operand(1));
  params.then.apply(TileOp::add, scaled, params.then.operand(2));
  good.steps = {{.op = "planck.Convolution",
                 .params = params,
                 .inputs = {x, weight, -1, gate, rest},
                 .outputs = {y},
                 .kernel = kernel}};
  verify_plan(good);
  Plan plan = good;
  plan.steps[0].inputs.pop_back();
  expect_refused(plan, "its program reads 3 operands");
  plan.steps[0].inputs.resize(9, rest);
  expect_refused(plan, "its program reads 3 operands");
  plan = good;
  plan.steps[0].inputs[4] = -1;
  expect_refused(plan, "an operand of its program is missing");
  plan = good;
  plan.steps[0].inputs[3] = -1;
  expect_refused(plan, "its program reads 3 operands");
  plan = good;
  plan.steps[0].inputs[4] = 99;
  expect_refused(plan, "value 99");
}

}  // namespace
}  // namespace planck
