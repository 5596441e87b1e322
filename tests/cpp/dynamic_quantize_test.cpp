// DynamicQuantizeLinear: every row against the op's own words, in scalars.
#include <algorithm>
#include <random>

#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/dynamic_quantize/rows.h"

namespace planck {
namespace {

struct Quantized {
  std::vector<uint8_t> y;
  float scale;
  uint8_t zero;
};

uint8_t quantized(float ratio, int zero) {
  if (std::isnan(ratio)) return 0;
  return static_cast<uint8_t>(std::clamp(std::nearbyint(double{ratio}) + zero, 0.0, 255.0));
}

Quantized exact(std::span<const float> x) {
  float low = 0, high = 0;
  for (const float v : x) low = std::min(low, v), high = std::max(high, v);
  Quantized q{{}, (high - low) / 255.0f, 0};
  if (q.scale != 0) q.zero = quantized(-low / q.scale, 0);
  for (const float v : x) q.y.push_back(q.scale == 0 ? 0 : quantized(v / q.scale, q.zero));
  return q;
}

void check_tensor(const DynamicQuantizeRow& row, const GuardedFloats& x) {
  const Quantized want = exact(x.span());
  GuardedBytes out(x.size()), zero(1);
  GuardedFloats scale(1);
  std::vector<FloatRange> ranges(kQuantizeParts);
  DynamicQuantizeArgs args = make_dynamic_quantize_args(x.size());
  args.x = x.data(), args.out = out.data(), args.scale = scale.data(), args.zero = zero.data();
  args.ranges = ranges.data();
  ASSERT_LE(args.parts, kQuantizeParts);
  const Worker worker;
  for (int64_t tile = row.tiles(args); tile-- > 0;) row.range(&args, tile, worker);
  run_all_tiles(row, args);
  EXPECT_TRUE(same_bits(scale[0], want.scale)) << scale[0] << " for " << want.scale;
  EXPECT_EQ(zero[0], want.zero);
  for (int64_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(out[i], want.y[static_cast<size_t>(i)]) << "of " << x[i] << " at " << i;
  }
}

void check_tensors(const DynamicQuantizeRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const int64_t count : {0, 1, 15, 16, 17, 1000, 16384, 16385, 100000, 1300000}) {
    if (count > 100000 && row.isa == Isa::portable) continue;
    SCOPED_TRACE(count);
    GuardedFloats x(count);
    x.randomize(static_cast<uint32_t>(count), 3);
    check_tensor(row, x);
  }
}

// The extremes lie at any place; what is no number is quantized as the lowest.
void check_extremes(const DynamicQuantizeRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const std::vector<std::vector<float>> ends = {{kNotANumber},
                                                {kInfinity},
                                                {-kInfinity},
                                                {kInfinity, -kInfinity, kNotANumber},
                                                {1e30f, -2e30f},
                                                {3.4e38f, -3.4e38f},
                                                {1e-45f},
                                                {-1e-42f, 3e-43f},
                                                {-7},
                                                {7},
                                                {-0.0f}};
  for (const std::vector<float>& values : ends) {
    for (const float other : {0.0f, 0.25f, -0.5f}) {
      for (const int64_t place : {0, 20, 36}) {
        SCOPED_TRACE(cat(values[0], " among ", other, " at ", place));
        GuardedFloats x(40);
        x.fill(other);
        for (size_t i = 0; i < values.size(); ++i) x[place + static_cast<int64_t>(i)] = values[i];
        check_tensor(row, x);
      }
    }
  }
}

#define PLANCK_DYNAMIC_QUANTIZE(name, isa)                                           \
  TEST(DynamicQuantizeKernels, name) { check_tensors(dynamic_quantize_row(#name)); } \
  TEST(DynamicQuantizeExtremes, name) { check_extremes(dynamic_quantize_row(#name)); }
#include "kernels/dynamic_quantize/kernels.inc"
#undef PLANCK_DYNAMIC_QUANTIZE

}  // namespace
}  // namespace planck
