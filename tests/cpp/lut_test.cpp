// Tables of bytes: every row against table[x], for rows apart and rows that touch, with tails.
#include <random>

#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/lut/rows.h"

namespace planck {
namespace {

void check_lut(const LutRow& row, int64_t rows, int64_t columns, int64_t gap, bool vbmi) {
  const int64_t x_stride = columns + gap, out_stride = columns + 2 * gap;
  GuardedBytes x(rows * x_stride - gap), out(rows * out_stride - 2 * gap), table(256);
  std::mt19937 random(static_cast<uint32_t>(columns));
  for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(random());
  for (int64_t i = 0; i < out.size(); ++i) out[i] = 99;
  for (int64_t i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(random());
  LutArgs args = make_lut_args(rows, columns, x_stride, out_stride);
  args.vbmi = args.vbmi && vbmi;
  args.x = x.data(), args.table = table.data(), args.out = out.data();
  run_all_tiles(row, args);
  for (int64_t i = 0; i < out.size(); ++i) {
    const int64_t r = i / out_stride, c = i % out_stride;
    ASSERT_EQ(out[i], c < columns ? table[x[r * x_stride + c]] : 99) << r << ", " << c;
  }
}

void check_luts(const LutRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const int64_t shapes[][2] = {{1, 1},   {3, 31},       {2, 32},   {2, 33},
                               {5, 64},  {1, 300},      {700, 97}, {2, kLutTile + 5},
                               {3, 256}, {4, kLutTile}, {40000, 1}};
  for (const auto& shape : shapes) {
    for (const int64_t gap : {0, 3}) {
      for (const bool vbmi : {false, true}) {
        SCOPED_TRACE(cat(shape[0], " x ", shape[1], " + ", gap));
        check_lut(row, shape[0], shape[1], gap, vbmi);
      }
    }
  }
  const LutArgs nothing = make_lut_args(3, 0, 0, 0);
  EXPECT_EQ(row.tiles(nothing), 0);
}

#define PLANCK_LUT(name, isa) \
  TEST(LutKernels, name) { check_luts(lut_row(#name)); }
#include "kernels/lut/kernels.inc"
#undef PLANCK_LUT

}  // namespace
}  // namespace planck
