// Pools of bytes: every row against windows written as loops over places.
#include <random>

#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/byte_pool/rows.h"

namespace planck {
namespace {

struct Pool {
  WindowSteps rows, columns;
  int64_t images, channels;
};

// The places of an axis that window `at` reads.
std::vector<int64_t> places_of(const WindowSteps& axis, int64_t at) {
  std::vector<int64_t> places;
  for (int64_t tap = 0; tap < axis.kernel; ++tap) {
    const int64_t place = at * axis.stride - axis.begin + tap * axis.dilation;
    if (place >= 0 && place < axis.in) places.push_back(place);
  }
  return places;
}

int greatest(const BytePoolArgs& a, int64_t image, int64_t y, int64_t x, int64_t channel) {
  int best = a.is_signed ? -128 : 0;
  for (const int64_t row : places_of(a.rows, y)) {
    for (const int64_t column : places_of(a.columns, x)) {
      const uint8_t byte =
          a.x[image * a.image_step + row * a.rows.step + column * a.columns.step + channel];
      best = std::max(best, a.is_signed ? int{static_cast<int8_t>(byte)} : int{byte});
    }
  }
  return best;
}

void check_pool(const BytePoolRow& row, Pool p, bool is_signed) {
  const int64_t pixel = p.channels + 3, gap = 2;
  p.columns.step = pixel;
  p.rows.step = p.columns.in * pixel;
  BytePoolArgs args{};
  args.rows = p.rows, args.columns = p.columns;
  args.images = p.images, args.channels = p.channels;
  args.image_step = p.rows.in * p.rows.step;
  args.out_stride = p.channels + gap;
  args.is_signed = is_signed;
  const int64_t outputs = p.images * p.rows.out * p.columns.out;
  GuardedBytes x(p.images * args.image_step - 3), out(outputs * args.out_stride - gap);
  std::mt19937 random(static_cast<uint32_t>(p.channels));
  for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(random());
  for (int64_t i = 0; i < out.size(); ++i) out[i] = 99;
  args.x = x.data(), args.out = out.data();
  plan_byte_pool(args);
  run_all_tiles(row, args);
  for (int64_t i = 0; i < out.size(); ++i) {
    const int64_t place = i / args.out_stride, channel = i % args.out_stride;
    const int64_t line = place / p.columns.out;
    const int want = channel >= p.channels ? 99
                                           : greatest(args, line / p.rows.out, line % p.rows.out,
                                                      place % p.columns.out, channel);
    ASSERT_EQ(out[i], static_cast<uint8_t>(want)) << place << ", " << channel;
  }
}

void check_pools(const BytePoolRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const WindowSteps one{}, three{9, 5, 3, 2, 1, 1}, wide{40, 20, 3, 2, 1, 1};
  const WindowSteps dilated{11, 7, 3, 1, 2, 0}, outside{2, 4, 2, 2, 1, 3};
  for (const int64_t channels : {1, 15, 16, 17, 64, 100, 130}) {
    for (const bool is_signed : {false, true}) {
      SCOPED_TRACE(cat(channels, is_signed ? " signed" : " unsigned"));
      check_pool(row, {three, wide, 2, channels}, is_signed);
      check_pool(row, {dilated, three, 1, channels}, is_signed);
      check_pool(row, {one, wide, 3, channels}, is_signed);
      check_pool(row, {outside, outside, 1, channels}, is_signed);
    }
  }
}

#define PLANCK_BYTE_POOL(name, isa) \
  TEST(BytePoolKernels, name) { check_pools(byte_pool_row(#name)); }
#include "kernels/byte_pool/kernels.inc"
#undef PLANCK_BYTE_POOL

}  // namespace
}  // namespace planck
