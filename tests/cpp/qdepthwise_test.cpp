// Integer depthwise convolutions of every row against 64-bit sums, bit for bit, between guard
// pages.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/team.h"
#include "byte_pictures.h"
#include "kernel_rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/qdepthwise/rows.h"

namespace planck {
namespace {

enum class End { floats, requantised, program_floats, program_bytes };

// relu(v), or quantize(relu(v + (r - 117) * 0.21)).
constexpr float kResidualZero = 117, kResidualScale = 0.21F, kOutScale = 0.37F, kOutZero = 44;
TileProgram program_of(End end) {
  TileProgram p;
  p.operands = {Broadcast::none, Broadcast::none};
  int16_t x = p.operand(0);
  if (end == End::program_bytes) {
    const int16_t r = p.apply(TileOp::sub, p.operand(1), p.constant(kResidualZero));
    x = p.apply(TileOp::add, x, p.apply(TileOp::mul, r, p.constant(kResidualScale)));
  } else {
    p.operands.pop_back();
  }
  x = p.apply(TileOp::relu, x);
  if (end == End::program_bytes) {
    p.apply(TileOp::quantize_u8, x, p.constant(kOutScale), p.constant(kOutZero));
  }
  return p;
}

struct Problem {
  Problem(const Picture& picture, End what, std::mt19937& random)
      : p(picture),
        end(what),
        program(compile(program_of(what))),
        x(p.size()),
        codes(p.taps() * p.channels),
        w(p.taps() * p.channels),
        offset(p.channels),
        padding(p.channels),
        multiplier(p.channels),
        bias(p.channels),
        residual(p.outputs() * p.channels),
        out(p.outputs() * p.channels),
        byte_residual(p.outputs() * p.channels),
        out_bytes(p.outputs() * p.channels) {
    const uint32_t seed = random();
    const auto values = static_cast<Values>(random() % 3);
    randomize(x, values, seed), randomize(codes, values, seed + 1);
    randomize(byte_residual, Values::random, seed + 5);
    std::ranges::copy(widened(weights()), w.data());
    for (int64_t j = 0; j < p.channels; ++j) offset[j] = static_cast<int32_t>(random()) / 3;
    if (random() % 3 > 0) zero = 131;
    zero_in_run = random() % 2 == 0;
    pad();
    with_bias = random() % 2 == 0, with_residual = random() % 2 == 0;
    multiplier.randomize(seed + 2, bytes() ? 1e-6F : 1), bias.randomize(seed + 3, 90);
    residual.randomize(seed + 4, 90);
    multiplier.read_only(), bias.read_only(), residual.read_only();
    if (random() % 2 == 0) out_zero = static_cast<int32_t>(random() % 256);
    if (random() % 2 == 0) low = static_cast<int32_t>(random() % 100), high = low + 60;
  }
  std::span<const int8_t> weights() const {
    return {codes.data(), static_cast<size_t>(codes.size())};
  }
  void pad() const {
    const uint8_t known = zero_in_run ? 0 : zero;
    std::ranges::copy(padding_of(weights(), p.channels, known), padding.data());
  }
  bool bytes() const { return end == End::requantised || end == End::program_bytes; }

  QDepthwiseArgs args(const QDepthwiseRow& row) const {
    QDepthwiseArgs a{};
    a.x = x.data(), a.w = w.data();
    if (zero_in_run) {
      a.zero_at = &zero;
    } else {
      a.zero = zero;
    }
    a.offset = offset.data(), a.multiplier = multiplier.data(), a.padding = padding.data();
    if (with_bias) a.bias = bias.data();
    if (with_residual) a.residual = residual.data(), a.residual_stride = p.channels;
    a.out = bytes() ? nullptr : out.data();
    a.bytes = bytes() ? out_bytes.data() : nullptr;
    a.bytes_type = EltType::u8;
    a.requantize = end == End::requantised;
    a.out_zero = out_zero, a.low = low, a.high = high;
    if (end == End::program_floats || end == End::program_bytes) a.program = &program;
    if (end == End::program_bytes) a.operand = {byte_residual.data(), p.channels, 1, EltType::u8};
    a.rows = p.y, a.columns = p.x;
    a.images = p.images, a.channels = p.channels;
    a.image_step = p.image_step(), a.out_stride = p.channels;
    plan_qdepthwise(row, a);
    return a;
  }
  void run(const QDepthwiseRow& row, int threads) const {
    const QDepthwiseArgs a = args(row);
    const Job job = row.job(a);
    Team(threads, scratch_bytes(a)).run({&job, 1});
  }

  void expect(int64_t o, int64_t channel) const {
    int64_t sum = offset[channel];
    for (int64_t t = 0; t < p.taps(); ++t) {
      const int64_t at = p.at(o, t), byte = at < 0 ? zero : x[at + channel];
      sum += (zero_in_run ? byte - zero : byte) * codes[t * p.channels + channel];
    }
    float v = static_cast<float>(sum) * multiplier[channel];
    const int64_t e = o * p.channels + channel;
    if (with_bias) v += bias[channel];
    if (with_residual) v += residual[e];
    if (end == End::program_bytes) {
      v += (static_cast<float>(byte_residual[e]) - kResidualZero) * kResidualScale;
    }
    if (end == End::program_bytes || end == End::program_floats) v = v < 0 ? 0 : v;
    const auto rounded = [](float y) { return std::nearbyint(static_cast<double>(y)); };
    if (end == End::requantised) {
      ASSERT_EQ(out_bytes[e], std::clamp<double>(rounded(v) + out_zero, low, high)) << e;
    } else if (end == End::program_bytes) {
      ASSERT_EQ(out_bytes[e], std::clamp<double>(rounded(v / kOutScale) + kOutZero, 0, 255)) << e;
    } else {
      ASSERT_EQ(out[e], v) << "element " << e;
    }
  }

  Picture p;
  End end;
  EltProgram program;
  GuardedBytes x;
  Guarded<int8_t> codes;
  GuardedFloats w;
  Guarded<int32_t> offset, padding;
  GuardedFloats multiplier, bias, residual, out;
  GuardedBytes byte_residual, out_bytes;
  uint8_t zero = 0;          // as after a ReLU, or not
  bool zero_in_run = false;  // and sums are of x less it
  bool with_bias = false, with_residual = false;
  int32_t out_zero = 0, low = 0, high = 255;
};

void check(const QDepthwiseRow& row, const Picture& picture, End end, int threads,
           std::mt19937& random) {
  const Problem problem(picture, end, random);
  SCOPED_TRACE(cat(testing::PrintToString(picture), " end ", static_cast<int>(end)));
  problem.run(row, threads);
  for (int64_t o = 0; o < picture.outputs(); ++o) {
    for (int64_t channel = 0; channel < picture.channels; ++channel) {
      problem.expect(o, channel);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

void check_row(const QDepthwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  std::mt19937 random(11);
  for (int i = 0; i < 400; ++i) {
    Picture picture = picture_of(random);
    if (i % 3 == 0) picture.channels += 32, picture.set_steps();  // whole vectors and a rest
    if (i % 5 == 0) picture.x.kernel = 5, picture.x.dilation = 1;
    check(row, picture, static_cast<End>(i % 4), 1 + i % 3, random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// More taps than floats can add up exactly, at the largest magnitudes.
TEST(QDepthwise, ManyTaps) {
  std::mt19937 random(5);
  for (const QDepthwiseRow& row : qdepthwise_rows()) {
    if (!this_device().has(row.isa)) continue;
    for (const int64_t kernel : {int64_t{31}, int64_t{100}, kQDepthwiseTaps}) {
      Picture picture{.channels = 18};
      picture.y = {.in = 40, .out = 3, .kernel = 35, .begin = 2};
      picture.x = {.in = 150, .out = 5, .kernel = kernel, .begin = 1};
      picture.set_steps();
      Problem problem(picture, End::floats, random);
      std::fill_n(problem.x.data(), problem.x.size(), uint8_t{255});
      std::fill_n(problem.codes.data(), problem.codes.size(), int8_t{-128});
      problem.w.fill(-128), problem.pad();
      problem.run(row, 2);
      for (int64_t e = 0; e < problem.out.size(); ++e) {
        problem.expect(e / picture.channels, e % picture.channels);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

#define PLANCK_QDEPTHWISE(name, isa) \
  TEST(QDepthwise, name) { check_row(qdepthwise_row(#name)); }
#include "kernels/qdepthwise/kernels.inc"
#undef PLANCK_QDEPTHWISE

// What leaves int32, and what is no number, before it becomes a byte.
TEST(QDepthwiseEpilogue, BytesSaturateAndNanIsTheLowest) {
  const std::vector<float> bias{kInfinity, -kInfinity, kNotANumber, 3e9F, 0.5F, 1.5F, -0.5F};
  const std::vector<uint8_t> want{250, 2, 2, 250, 10, 12, 10}, x(7, 9);
  const std::vector<float> w(7, 1);
  const std::vector<int32_t> offset(7, 0), padding(7, 0);
  const std::vector<float> multiplier(7, 0);
  for (const QDepthwiseRow& row : qdepthwise_rows()) {
    if (!this_device().has(row.isa)) continue;
    std::vector<uint8_t> out(7);
    QDepthwiseArgs a{};
    a.x = x.data(), a.w = w.data(), a.offset = offset.data(), a.padding = padding.data();
    a.multiplier = multiplier.data(), a.bias = bias.data();
    a.requantize = true;
    a.bytes = out.data(), a.out_zero = 10, a.low = 2, a.high = 250;
    a.rows = a.columns = {.step = 7};
    a.images = 1, a.channels = 7, a.image_step = 7, a.out_stride = 7;
    plan_qdepthwise(row, a);
    const Job job = row.job(a);
    Team(1).run({&job, 1});
    EXPECT_EQ(out, want) << row.name;
  }
}

TEST(QDepthwiseEpilogue, RefusesWhatContradictsItself) {
  const QDepthwiseRow& row = qdepthwise_row("qdepthwise_u8s8s32_portable");
  QDepthwiseArgs a{};
  a.requantize = true, a.low = 3, a.high = 2;
  EXPECT_THROW(plan_qdepthwise(row, a), InternalError);
  a.high = 4;
  plan_qdepthwise(row, a);
  a.columns.kernel = kQDepthwiseTaps + 1;
  EXPECT_THROW(plan_qdepthwise(row, a), InternalError);
  QDepthwiseArgs nowhere{};
  EXPECT_THROW(plan_qdepthwise(row, nowhere), InternalError);
}

}  // namespace
}  // namespace planck
