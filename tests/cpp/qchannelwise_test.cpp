// Integer depthwise convolutions and byte pools of every row against 64-bit sums, bit for bit,
// between guard pages.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/team.h"
#include "byte_pictures.h"
#include "kernel_rows.h"
#include "kernels/qchannelwise/rows.h"

namespace planck {
namespace {

struct Problem {
  Problem(const Picture& picture, std::mt19937& random)
      : p(picture),
        x(p.bytes()),
        w(p.taps() * p.channels),
        offset(p.channels),
        multiplier(p.channels),
        bias(p.channels),
        out(p.outputs() * p.channels),
        out_bytes(p.outputs() * p.channels) {
    const uint32_t seed = random();
    const auto values = static_cast<Values>(random() % 3);
    randomize(x, values, seed), randomize(w, values, seed + 1);
    for (int64_t j = 0; j < p.channels; ++j) offset[j] = static_cast<int32_t>(random()) / 3;
    bytes = random() % 2 == 0, with_bias = random() % 2 == 0, relu = random() % 2 == 0;
    multiplier.randomize(seed + 2, bytes ? 1e-6F : 1), bias.randomize(seed + 3, 90);
    multiplier.read_only(), bias.read_only();
    if (random() % 2 == 0) out_zero = static_cast<int32_t>(random() % 256);
    if (random() % 2 == 0) low = static_cast<int32_t>(random() % 100), high = low + 60;
  }

  QChannelwiseArgs args(QChannelwiseOp op) const {
    QChannelwiseArgs a{};
    a.op = op;
    a.x = x.data(), a.zero = kZero, a.w = w.data();
    a.offset = offset.data(), a.multiplier = multiplier.data();
    if (with_bias) a.bias = bias.data();
    a.relu = relu;
    const bool to_bytes = bytes || op == QChannelwiseOp::max;
    a.out = to_bytes ? nullptr : out.data();
    a.out_bytes = out_bytes.data();
    a.out_zero = out_zero, a.low = low, a.high = high;
    a.rows = p.y, a.columns = p.x;
    a.images = p.images, a.channels = p.channels;
    a.image_step = p.image_step(), a.out_stride = p.channels;
    plan_qchannelwise(a);
    return a;
  }
  void run(const QChannelwiseRow& row, QChannelwiseOp op, int threads) const {
    const QChannelwiseArgs a = args(op);
    const Job job = row.job(a);
    Team(threads).run({&job, 1});
  }

  void expect_product(int64_t o, int64_t channel) const {
    int64_t sum = offset[channel];
    for (int64_t t = 0; t < p.taps(); ++t) {
      const int64_t at = p.at(o, t), byte = at < 0 ? kZero : x[at + channel];
      sum += (byte - kZero) * w[t * p.channels + channel];
    }
    float v = static_cast<float>(sum) * multiplier[channel];
    if (with_bias) v += bias[channel];
    if (relu && v < 0) v = 0;
    const int64_t e = o * p.channels + channel;
    if (bytes) {
      const double rounded = std::nearbyint(static_cast<double>(v)) + out_zero;
      ASSERT_EQ(out_bytes[e], std::clamp<double>(rounded, low, high)) << "element " << e;
    } else {
      ASSERT_TRUE(same_bits(out[e], v)) << out[e] << " for " << v << ", element " << e;
    }
  }
  void expect_maximum(int64_t o, int64_t channel) const {
    uint8_t most = 0;
    for (int64_t t = 0; t < p.taps(); ++t) {
      const int64_t at = p.at(o, t);
      if (at >= 0) most = std::max(most, x[at + channel]);
    }
    ASSERT_EQ(out_bytes[o * p.channels + channel], most);
  }

  static constexpr uint8_t kZero = 131;
  Picture p;
  GuardedBytes x;
  Guarded<int8_t> w;
  Guarded<int32_t> offset;
  GuardedFloats multiplier, bias, out;
  GuardedBytes out_bytes;
  bool bytes = false, with_bias = false, relu = false;
  int32_t out_zero = 0, low = 0, high = 255;
};

void check_row(const QChannelwiseRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  std::mt19937 random(11);
  for (int i = 0; i < 200; ++i) {
    Picture picture = picture_of(random);
    if (i % 3 == 0) picture.channels += 32, picture.set_steps();  // whole vectors and a rest
    const Problem problem(picture, random);
    SCOPED_TRACE(testing::PrintToString(picture));
    for (const QChannelwiseOp op : {QChannelwiseOp::depthwise, QChannelwiseOp::max}) {
      problem.run(row, op, 1 + i % 3);
      for (int64_t o = 0; o < picture.outputs(); ++o) {
        for (int64_t channel = 0; channel < picture.channels; ++channel) {
          op == QChannelwiseOp::max ? problem.expect_maximum(o, channel)
                                    : problem.expect_product(o, channel);
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

#define PLANCK_QCHANNELWISE(name, isa) \
  TEST(QChannelwise, name) { check_row(qchannelwise_row(#name)); }
#include "kernels/qchannelwise/kernels.inc"
#undef PLANCK_QCHANNELWISE

// What leaves int32, and what is no number, before it becomes a byte.
TEST(QChannelwiseEpilogue, BytesSaturateAndNanIsTheLowest) {
  const std::vector<float> bias{kInfinity, -kInfinity, kNotANumber, 3e9F, 0.5F, 1.5F, -0.5F};
  const std::vector<uint8_t> want{250, 2, 2, 250, 10, 12, 10}, x(7, 9);
  const std::vector<int8_t> w(7, 1);
  const std::vector<int32_t> offset(7, 0);
  const std::vector<float> multiplier(7, 0);
  for (const QChannelwiseRow& row : qchannelwise_rows()) {
    if (!this_device().has(row.isa)) continue;
    std::vector<uint8_t> out(7);
    QChannelwiseArgs a{};
    a.x = x.data(), a.w = w.data(), a.offset = offset.data();
    a.multiplier = multiplier.data(), a.bias = bias.data();
    a.out_bytes = out.data(), a.out_zero = 10, a.low = 2, a.high = 250;
    a.rows = a.columns = {.step = 7};
    a.images = 1, a.channels = 7, a.image_step = 7, a.out_stride = 7;
    plan_qchannelwise(a);
    const Job job = row.job(a);
    Team(1).run({&job, 1});
    EXPECT_EQ(out, want) << row.name;
  }
}

TEST(QChannelwiseEpilogue, RefusesBytesOutsideTheirRange) {
  QChannelwiseArgs a{};
  a.low = 3, a.high = 2;
  EXPECT_THROW(plan_qchannelwise(a), InternalError);
}

}  // namespace
}  // namespace planck
