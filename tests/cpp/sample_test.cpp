// GridSample, RoiAlign and LRN of every row against the references of the ops, between guard pages,
// with coordinates that are no places at all; bits equal between rows and forms.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/grid_sample/rows.h"
#include "kernels/lrn/rows.h"
#include "kernels/roi_align/rows.h"
#include "ops_fixture.h"

namespace planck {
namespace {

template <class Row, class Args>
void run_with_scratch(const Row& row, const Args& args, int64_t bytes) {
  // Tiles may use what they ask for and nothing behind it.
  GuardedFloats scratch((bytes + 3) / 4);
  Worker worker;
  worker.scratch = reinterpret_cast<std::byte*>(scratch.data());
  for (int64_t tile = row.tiles(args); tile-- > 0;) row.run(&args, tile, worker);
}

Wide wide(Shape shape, const GuardedFloats& from) {
  Wide out(DType::f32, std::move(shape));
  for (size_t i = 0; i < out.real.size(); ++i) out.real[i] = from[static_cast<int64_t>(i)];
  return out;
}

// Numbers in the order [images, channels, places] in the one with channels last.
void with_channels_last(const GuardedFloats& from, int64_t channels, int64_t places,
                        GuardedFloats& to) {
  for (int64_t i = 0; i < from.size(); ++i) {
    const int64_t place = i % places, channel = i / places % channels,
                  image = i / places / channels;
    to[(image * places + place) * channels + channel] = from[i];
  }
}

void expect_near(const GuardedFloats& got, const Wide& exact, const std::string& what) {
  ASSERT_EQ(got.size(), exact.count()) << what;
  for (int64_t i = 0; i < got.size(); ++i) {
    const double want = exact.real[static_cast<size_t>(i)];
    ASSERT_NEAR(got[i], want, 4e-7 * std::max(std::abs(want), 4.0)) << what << ", " << i;
  }
}

// --- GridSample -----------------------------------------------------------------------------

struct GridCase {
  int64_t images, channels, rows, columns, out_rows, out_columns;
};
const GridCase kGridCases[] = {{2, 3, 4, 5, 6, 7},  {1, 32, 8, 8, 50, 23}, {1, 37, 3, 2, 1, 50},
                               {3, 1, 1, 1, 5, 5},  {1, 16, 1, 6, 4, 9},   {2, 17, 7, 1, 9, 3},
                               {1, 70, 9, 9, 30, 9}};

// Coordinates inside and outside, exactly on borders and middles of elements, and none at all.
void draw_grid(GuardedFloats& grid, uint32_t seed) {
  constexpr float kSpecial[] = {-1,    1,      0,    -0.0F,       1.0000001F, -1.0000001F, 3e38F,
                                1e30F, -1e30F, 1e9F, kNotANumber, kInfinity,  -kInfinity,  1e-40F,
                                2,     -2,     0.5F, -0.75F,      2.5F,       -7};
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> near(-1.3F, 1.3F);
  for (int64_t i = 0; i < grid.size(); ++i) {
    grid[i] = random() % 4 == 0 ? kSpecial[random() % std::size(kSpecial)] : near(random);
  }
}

std::string attributes_of(const GridSampleArgs& a) {
  constexpr const char* kPaddings[] = {"zeros", "border", "reflection"};
  return cat(R"({"mode":")", a.nearest ? "nearest" : "linear", R"(","padding_mode":")",
             kPaddings[static_cast<size_t>(a.padding)], R"(","align_corners":)",
             a.align_corners ? 1 : 0, "}");
}

struct Sampled {
  explicit Sampled(const GridCase& shape)
      : s(shape),
        x(s.images * s.channels * s.rows * s.columns),
        last(x.size()),
        grid(s.images * s.out_rows * s.out_columns * 2),
        out(s.images * s.channels * s.out_rows * s.out_columns),
        same(out.size()) {
    x.randomize(3);
    with_channels_last(x, s.channels, s.rows * s.columns, last);
    draw_grid(grid, 5);
    x.read_only(), last.read_only(), grid.read_only();
  }

  GridSampleArgs args(bool planes) const {
    GridSampleArgs a{};
    a.x = planes ? x.data() : last.data(), a.grid = grid.data(), a.out = out.data();
    a.images = s.images, a.channels = s.channels, a.rows = s.rows, a.columns = s.columns;
    a.image_step = s.channels * s.rows * s.columns, a.run = s.images;
    a.channel_step = planes ? s.rows * s.columns : 1;
    a.column_step = planes ? 1 : s.channels, a.row_step = s.columns * a.column_step;
    a.out_rows = s.out_rows, a.out_columns = s.out_columns;
    const int64_t places = s.out_rows * s.out_columns;
    a.axis_step = 1, a.grid_column = 2, a.grid_row = 2 * s.out_columns, a.grid_image = 2 * places;
    a.out_image = s.channels * places, a.out_channel = planes ? places : 1;
    a.out_place = planes ? 1 : s.channels;
    a.planes = planes;
    return a;
  }

  // As planes, whatever the form.
  void run(const GridSampleRow& row, GridSampleArgs a) {
    out.fill(12345);
    plan_grid_sample(a);
    run_with_scratch(row, a, row.scratch_bytes);
    if (a.planes) return;
    GuardedFloats turned(out.size());
    with_channels_last(out, s.out_rows * s.out_columns, s.channels, turned);
    std::copy_n(turned.data(), out.size(), out.data());
  }

  Wide exact(const GridSampleArgs& a) const {
    return call("GridSample", attributes_of(a),
                {wide({s.images, s.channels, s.rows, s.columns}, x),
                 wide({s.images, s.out_rows, s.out_columns, 2}, grid)});
  }

  GridCase s;
  GuardedFloats x, last, grid, out, same;
};

void check_mode(const GridSampleRow& row, Sampled& c, bool nearest, GridPadding padding,
                bool align) {
  for (const bool planes : {false, true}) {
    GridSampleArgs a = c.args(planes);
    a.nearest = nearest, a.padding = padding, a.align_corners = align;
    const std::string what = cat(attributes_of(a), planes ? " in planes" : " channels last");
    c.run(row, a);
    expect_near(c.out, c.exact(a), what);
    if (testing::Test::HasFatalFailure()) return;
    if (!planes) std::copy_n(c.out.data(), c.out.size(), c.same.data());
    SCOPED_TRACE(what);
    expect_same_bits(c.out.data(), c.same.data(), c.out.size());
    // And the bits of the portable row.
    std::copy_n(c.out.data(), c.out.size(), c.same.data());
    c.run(grid_sample_row("grid_sample_f32_portable"), a);
    expect_same_bits(c.out.data(), c.same.data(), c.out.size());
    // And those of images that lie in runs of one.
    a.run = 1, a.run_step = std::exchange(a.image_step, -12345);
    c.run(row, a);
    expect_same_bits(c.out.data(), c.same.data(), c.out.size());
  }
}

TEST(GridSample, EveryRowModeAndFormAgreesWithTheReference) {
  for (const GridSampleRow& row : grid_sample_rows()) {
    if (!this_device().has(row.isa)) continue;
    for (const GridCase& shape : kGridCases) {
      Sampled c(shape);
      for (int mode = 0; mode < 12; ++mode) {
        check_mode(row, c, mode % 2 == 1, static_cast<GridPadding>(mode / 2 % 3), mode / 6 == 1);
        if (HasFatalFailure()) FAIL() << row.name << ", " << shape.rows << " x " << shape.columns;
      }
    }
  }
}

// A view of a flipped picture begins at its last element; offsets of the others are below zero.
TEST(GridSample, ReadsPicturesBackwards) {
  Sampled c(kGridCases[1]);
  for (const GridSampleRow& row : grid_sample_rows()) {
    if (!this_device().has(row.isa)) continue;
    for (const bool planes : {false, true}) {
      GridSampleArgs a = c.args(planes);
      const Wide want = c.exact(a);
      a.x += (c.s.rows - 1) * a.row_step + (c.s.columns - 1) * a.column_step;
      a.row_step = -a.row_step, a.column_step = -a.column_step;
      // The grid looks the other way as well; both together are what they were.
      GuardedFloats flipped(c.grid.size());
      for (int64_t i = 0; i < flipped.size(); ++i) flipped[i] = -c.grid[i];
      a.grid = flipped.data();
      c.run(row, a);
      for (int64_t i = 0; i < c.out.size(); ++i) {
        ASSERT_NEAR(c.out[i], want.real[static_cast<size_t>(i)], 2e-6) << row.name << ", " << i;
      }
    }
  }
}

// What no sample reads is not multiplied either: infinities stay where they are.
TEST(GridSample, ElementsOutsideAreNotRead) {
  for (const GridSampleRow& row : grid_sample_rows()) {
    if (!this_device().has(row.isa)) continue;
    for (const bool planes : {false, true}) {
      Sampled c({1, 16, 4, 4, 1, 20});
      GuardedFloats x(c.x.size()), grid(c.grid.size());
      GridSampleArgs a = c.args(planes);
      x.fill(kInfinity);
      for (int64_t channel = 0; channel < 16; ++channel) {
        x[channel * a.channel_step] = 1;  // the first row and column
      }
      grid.fill(-1);  // a quarter of that element, three of none
      a.x = x.data(), a.grid = grid.data();
      c.run(row, a);
      for (int64_t i = 0; i < c.out.size(); ++i) ASSERT_EQ(c.out[i], 0.25F) << row.name;
    }
  }
}

// --- RoiAlign -------------------------------------------------------------------------------

struct Regions {
  static constexpr int64_t kCount = 9, kImages = 2, kRows = 9, kColumns = 7;

  Regions(int64_t channel_count, int64_t out_rows, int64_t out_columns)
      : channels(channel_count),
        x(kImages * channels * kRows * kColumns),
        last(x.size()),
        regions(4 * kCount),
        pictures(kCount),
        out(kCount * channels * out_rows * out_columns) {
    x.randomize(3);
    with_channels_last(x, channels, kRows * kColumns, last);
    constexpr float kRegions[kCount][4] = {
        {0, 0, 6, 8},      {1.5F, 2, 3, 3.25F}, {-4, -3, 12, 20},
        {5, 5, 2, 1},      {3, 3, 3, 3},        {1e30F, 1e30F, 1e30F, 1e30F},
        {-400, 2, 400, 4}, {6, 8, 7, 9},        {-1, -1, 7, 9}};
    std::copy_n(&kRegions[0][0], 4 * kCount, regions.data());
    for (int64_t i = 0; i < kCount; ++i) pictures[i] = i % kImages;
    a.x = last.data(), a.regions = regions.data(), a.pictures = pictures.data();
    a.out = out.data();
    a.images = kImages, a.rows = kRows, a.columns = kColumns, a.channels = channels;
    a.column_step = channels, a.row_step = kColumns * channels, a.image_step = kRows * a.row_step;
    a.count = kCount, a.out_rows = out_rows, a.out_columns = out_columns;
    const int64_t cells = out_rows * out_columns;
    a.out_region = channels * cells, a.out_cell = channels, a.out_channel = cells;
    a.scale = 0.9;
    last.read_only();
  }

  void run(const RoiAlignRow& row) {
    out.fill(12345);
    plan_roi_align(a);
    ASSERT_EQ(first_bad_region(a).region, -1);
    run_with_scratch(row, a, scratch_bytes(a));
    if (a.planes) return;
    GuardedFloats turned(out.size());
    with_channels_last(out, a.out_rows * a.out_columns, channels, turned);
    std::copy_n(turned.data(), out.size(), out.data());
  }

  Wide exact() const {
    const std::string attributes =
        cat(R"({"mode":")", a.largest ? "max" : "avg", R"(","coordinate_transformation_mode":")",
            a.half_pixel ? "half_pixel" : "output_half_pixel", R"(","output_height":)", a.out_rows,
            R"(,"output_width":)", a.out_columns, R"(,"sampling_ratio":)", a.samples,
            R"(,"spatial_scale":0.9})");
    return call("RoiAlign", attributes,
                {wide({kImages, channels, kRows, kColumns}, x), wide({kCount, 4}, regions),
                 ints({kCount}, {pictures.data(), pictures.data() + kCount})});
  }

  int64_t channels;
  GuardedFloats x, last, regions;
  Guarded<int64_t> pictures;
  GuardedFloats out;
  RoiAlignArgs a{};
};

void check_regions(Regions& c, const std::string& what) {
  const Wide want = c.exact();
  std::vector<float> bits;
  for (const RoiAlignRow& row : roi_align_rows()) {
    if (!this_device().has(row.isa)) continue;
    for (const bool planes : {false, true}) {
      c.a.planes = planes;
      c.run(row);
      expect_near(c.out, want, cat(row.name, what, planes ? " in planes" : ""));
      if (testing::Test::HasFatalFailure()) return;
      if (bits.empty()) bits.assign(c.out.data(), c.out.data() + c.out.size());
      expect_same_bits(c.out.data(), bits.data(), c.out.size());
    }
  }
}

TEST(RoiAlign, EveryRowAndModeAgreesWithTheReference) {
  for (const int64_t channels : {1, 16, 83}) {
    for (int mode = 0; mode < 12; ++mode) {
      Regions c(channels, mode % 2 == 0 ? 3 : 5, 4);
      c.a.largest = mode % 2 == 1, c.a.half_pixel = mode / 2 % 2 == 1;
      c.a.samples = std::array{0, 1, 3}[static_cast<size_t>(mode / 4)];
      check_regions(c, cat(", mode ", mode, ", ", channels, " channels"));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(RoiAlign, RegionsThatNoKernelMaySee) {
  Regions c(4, 2, 2);
  c.a.half_pixel = true;  // else no extent is below 1
  EXPECT_EQ(first_bad_region(c.a).region, -1);
  for (const float bad : {kNotANumber, kInfinity, -kInfinity, 3e38F, 2e6F}) {
    c.regions[4 * 5 + 2] = bad;
    EXPECT_EQ(first_bad_region(c.a).region, 5) << bad;
    EXPECT_FALSE(first_bad_region(c.a).outside);
  }
  for (const int64_t bad : {int64_t{-1}, int64_t{2}, INT64_MIN, INT64_MAX}) {
    c.pictures[3] = bad;
    EXPECT_EQ(first_bad_region(c.a).region, 3) << bad;
    EXPECT_TRUE(first_bad_region(c.a).outside);
  }
}

// --- LRN ------------------------------------------------------------------------------------

struct LrnCase {
  int64_t outer, channels, inner, size;
  double beta;
};
const LrnCase kLrnCases[] = {{3, 5, 1, 3, 0.75},   {7, 96, 1, 5, 0.75}, {2, 33, 1, 4, 0.6},
                             {2, 20, 70, 5, 0.75}, {1, 9, 300, 2, 0.5}, {4, 3, 1, 50, 0.75},
                             {2, 3, 17, 9, 1.25},  {2, 6, 5, 1, 0.75},  {300, 7, 1, 7, 2}};

LrnArgs lrn_args(const GuardedFloats& x, const GuardedFloats& out, int64_t outer, int64_t channels,
                 int64_t inner) {
  LrnArgs a{};
  a.x = x.data(), a.out = out.data();
  a.outer = outer, a.channels = channels, a.inner = inner;
  a.before = 2, a.after = 2, a.alpha = 1e-2F, a.beta = 0.75F, a.bias = 1;
  return a;
}

TEST(Lrn, EveryRowAgreesWithTheReference) {
  for (const LrnCase& s : kLrnCases) {
    GuardedFloats x(s.outer * s.channels * s.inner), out(x.size());
    x.randomize(9, 3);
    if (x.size() > 40) x[7] = 0, x[9] = 1e4F;
    x.read_only();
    LrnArgs a = lrn_args(x, out, s.outer, s.channels, s.inner);
    a.before = (s.size - 1) / 2, a.after = s.size / 2;
    a.alpha = static_cast<float>(0.3 / static_cast<double>(s.size));
    a.beta = static_cast<float>(s.beta), a.bias = 1.5F;
    plan_lrn(a);
    const Wide want =
        call("LRN", cat(R"({"alpha":0.3,"bias":1.5,"beta":)", s.beta, R"(,"size":)", s.size, "}"),
             {wide({s.outer, s.channels, s.inner}, x)});
    std::vector<float> bits;
    for (const LrnRow& row : lrn_rows()) {
      if (!this_device().has(row.isa)) continue;
      out.fill(12345);
      run_with_scratch(row, a, scratch_bytes(a));
      for (int64_t i = 0; i < out.size(); ++i) {
        const double exact = want.real[static_cast<size_t>(i)];
        ASSERT_NEAR(out[i], exact, 2e-6 * std::abs(exact)) << row.name << ", " << i;
      }
      if (bits.empty()) bits.assign(out.data(), out.data() + out.size());
      expect_same_bits(out.data(), bits.data(), out.size());
    }
  }
}

// Both forms of the same numbers have the same bits.
TEST(Lrn, LayoutsHaveTheSameBits) {
  constexpr int64_t kChannels = 37, kPlaces = 41;
  GuardedFloats planes(kChannels * kPlaces), last(planes.size()), a(planes.size()),
      b(planes.size()), turned(planes.size());
  planes.randomize(2);
  with_channels_last(planes, kChannels, kPlaces, last);
  LrnArgs in_planes = lrn_args(planes, a, 1, kChannels, kPlaces);
  LrnArgs in_rows = lrn_args(last, b, kPlaces, kChannels, 1);
  plan_lrn(in_planes), plan_lrn(in_rows);
  const LrnRow& row = best_row(lrn_rows());
  run_with_scratch(row, in_planes, scratch_bytes(in_planes));
  run_with_scratch(row, in_rows, scratch_bytes(in_rows));
  with_channels_last(a, kChannels, kPlaces, turned);
  expect_same_bits(turned.data(), b.data(), b.size());
}

}  // namespace
}  // namespace planck
