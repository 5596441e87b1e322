// Integers, indices and lanes against plain loops, between guard pages.
#include <algorithm>
#include <numeric>
#include <random>

#include "base/checked.h"
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/index/rows.h"
#include "kernels/integer/rows.h"
#include "kernels/lane/rows.h"

namespace planck {
namespace {

using Dims = std::vector<int64_t>;

// ---- integers -------------------------------------------------------------------------------

int64_t offset_of(const Dims& dims, const Dims& out, int64_t i) {
  int64_t offset = 0, step = 1;
  for (size_t k = 0; k < out.size(); ++k) {
    const int64_t at = i % out[out.size() - 1 - k];
    i /= out[out.size() - 1 - k];
    if (k >= dims.size()) continue;
    const int64_t extent = dims[dims.size() - 1 - k];
    if (extent != 1) offset += at * step;
    step *= extent;
  }
  return offset;
}

struct IntegerCase {
  Dims out, a, b, c;  // c: the condition of a choice
};
const IntegerCase kIntegerCases[] = {
    {{2, 7, 64}, {2, 7, 64}, {2, 7, 64}, {2, 7, 64}},
    {{2, 7, 33}, {2, 7, 1}, {33}, {7, 1}},
    {{5, 257}, {5, 1}, {257}, {5, 257}},
    {{3, 4, 5, 6}, {4, 1, 6}, {3, 1, 5, 1}, {3, 4, 1, 1}},
    {{}, {}, {}, {}},
    {{20001}, {20001}, {1}, {1}},
    {{20001}, {1}, {20001}, {20001}},
    {{4, 9}, {1}, {1, 1}, {4, 9}},
    {{0, 4}, {0, 4}, {4}, {1}},
};

template <class T>
void fill(Guarded<T>& x, uint32_t seed) {
  std::mt19937_64 random(seed);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(random() % 7) - 3;
  if (x.size() > 5) {
    x[1] = std::numeric_limits<T>::min();
    x[4] = std::numeric_limits<T>::max();
  }
}

template <class T>
int64_t joined_by(IntegerOp op, T a, T b) {
  using U = std::make_unsigned_t<T>;
  const U x = static_cast<U>(a), y = static_cast<U>(b);
  switch (op) {
    case IntegerOp::add:
      return static_cast<T>(x + y);
    case IntegerOp::sub:
      return static_cast<T>(x - y);
    case IntegerOp::mul:
      return static_cast<T>(x * y);
    case IntegerOp::min:
      return std::min(a, b);
    case IntegerOp::max:
      return std::max(a, b);
    case IntegerOp::equal:
      return a == b ? 1 : 0;
    case IntegerOp::less:
      return a < b ? 1 : 0;
    default:
      return a <= b ? 1 : 0;
  }
}

template <class T, class Out>
void check_pair(const IntegerRow& row, const IntegerCase& c, IntegerOp op, bool floats) {
  Guarded<T> a(checked_count(c.a)), b(checked_count(c.b));
  fill(a, 1), fill(b, 2);
  Guarded<Out> out(checked_count(c.out));
  const std::span<const int64_t> dims[] = {c.a, c.b};
  IntegerArgs args = make_integer_args(op, sizeof(T), floats, dims, c.out);
  args.operands[0] = a.data();
  args.operands[1] = b.data();
  args.out = out.data();
  run_all_tiles(row, args);
  for (int64_t i = 0; i < out.size(); ++i) {
    const int64_t want = joined_by(op, a[offset_of(c.a, c.out, i)], b[offset_of(c.b, c.out, i)]);
    ASSERT_EQ(out[i], static_cast<Out>(want)) << i;
  }
}

template <class T>
void check_select(const IntegerRow& row, const IntegerCase& c) {
  Guarded<T> a(checked_count(c.a)), b(checked_count(c.b)), out(checked_count(c.out));
  GuardedBytes condition(checked_count(c.c));
  for (int64_t i = 0; i < a.size(); ++i) a[i] = static_cast<T>(2 * i + 1);
  for (int64_t i = 0; i < b.size(); ++i) b[i] = static_cast<T>(2 * i);
  for (int64_t i = 0; i < condition.size(); ++i) condition[i] = static_cast<uint8_t>(i % 3 * 100);
  const std::span<const int64_t> dims[] = {c.c, c.a, c.b};
  IntegerArgs args = make_integer_args(IntegerOp::select, sizeof(T), false, dims, c.out);
  args.operands[0] = condition.data();
  args.operands[1] = a.data();
  args.operands[2] = b.data();
  args.out = out.data();
  run_all_tiles(row, args);
  for (int64_t i = 0; i < out.size(); ++i) {
    const bool first = condition[offset_of(c.c, c.out, i)] != 0;
    ASSERT_EQ(out[i], first ? a[offset_of(c.a, c.out, i)] : b[offset_of(c.b, c.out, i)]) << i;
  }
}

template <class T>
void check_integer(const IntegerRow& row, const IntegerCase& c) {
  for (const IntegerOp op :
       {IntegerOp::add, IntegerOp::sub, IntegerOp::mul, IntegerOp::min, IntegerOp::max}) {
    check_pair<T, T>(row, c, op, false);
  }
  for (const IntegerOp op : {IntegerOp::equal, IntegerOp::less, IntegerOp::less_equal}) {
    check_pair<T, uint8_t>(row, c, op, false);
    check_pair<T, float>(row, c, op, true);
  }
}

void check_integers(const IntegerRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const IntegerCase& c : kIntegerCases) {
    SCOPED_TRACE(joined(c.out));
    check_integer<int32_t>(row, c);
    check_integer<int64_t>(row, c);
    check_select<uint8_t>(row, c);
    check_select<uint16_t>(row, c);
    check_select<uint32_t>(row, c);
    check_select<uint64_t>(row, c);
  }
}

#define PLANCK_INTEGER(name, isa) \
  TEST(Integer, name) { check_integers(integer_row(#name)); }
#include "kernels/integer/kernels.inc"
#undef PLANCK_INTEGER

TEST(IntegerArgs, Refuses) {
  const Dims two = {2}, three = {3};
  const std::span<const int64_t> pair[] = {two, two}, apart[] = {two, three};
  EXPECT_THROW(make_integer_args(IntegerOp::add, 2, false, pair, two), InternalError);
  EXPECT_THROW(make_integer_args(IntegerOp::select, 4, false, pair, two), InternalError);
  EXPECT_THROW(make_integer_args(IntegerOp::add, 4, false, apart, two), InternalError);
}

// ---- indices --------------------------------------------------------------------------------

// x [outer, extent, inner] along its middle axis, as the ONNX op of the same name does.
template <class T, class Index>
void check_gather(const IndexRow& row, int64_t outer, int64_t extent, int64_t inner,
                  int64_t count) {
  Guarded<T> x(outer * extent * inner), out(outer * count * inner);
  Guarded<Index> indices(count);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i * 7 + 1);
  for (int64_t i = 0; i < count; ++i)
    indices[i] = static_cast<Index>(i * 5 % (2 * extent) - extent);
  IndexArgs args{};
  args.op = IndexOp::gather;
  args.repeat = true;
  args.bytes = sizeof(T);
  args.index_bytes = sizeof(Index);
  args.width = 1;
  args.data = x.data();
  args.indices = indices.data();
  args.out = out.data();
  args.rows = outer * count;
  args.inner = inner;
  args.block = count;
  args.block_step = extent * inner;
  args.period = 1;
  args.extents[0] = extent;
  args.steps[0] = inner;
  EXPECT_EQ(first_bad_index(args).at, -1);
  run_all_tiles(row, args);
  for (int64_t i = 0; i < out.size(); ++i) {
    int64_t at = indices[i / inner % count];
    at = (i / inner / count * extent + (at < 0 ? at + extent : at)) * inner + i % inner;
    ASSERT_EQ(out[i], x[at]) << i;
  }
  // An index that changes after the check is never followed.
  indices[count - 1] = static_cast<Index>(extent);
  EXPECT_EQ(first_bad_index(args).at, count - 1);
  run_all_tiles(row, args);
  EXPECT_EQ(out[out.size() - 1], T{0});
}

// Coordinates of two axes of data [3, 4, 5] into rows of 5, and back.
void check_coordinates(const IndexRow& row) {
  Guarded<float> data(60), rows(6 * 5), back(60);
  for (int64_t i = 0; i < 60; ++i) data[i] = static_cast<float>(i), back[i] = -1;
  Guarded<int64_t> indices(12);
  const int64_t places[] = {0, 0, 2, 3, -1, 1, 1, -4, 2, 1, 0, 3};
  std::copy_n(places, 12, indices.data());
  IndexArgs args{};
  args.op = IndexOp::gather;
  args.bytes = 4;
  args.index_bytes = 8;
  args.width = 2;
  args.indices = indices.data();
  args.rows = 6;
  args.inner = 5;
  args.block = 6;
  args.period = 1;
  args.extents[0] = 3, args.extents[1] = 4;
  args.steps[0] = 20, args.steps[1] = 5;
  args.data = data.data();
  args.out = rows.data();
  run_all_tiles(row, args);
  const int64_t first[] = {0, 55, 45, 20, 45, 15};
  for (int64_t i = 0; i < 30; ++i) ASSERT_EQ(rows[i], static_cast<float>(first[i / 5] + i % 5));
  // Rows 2 and 4 fall on one place: the later one stays.
  for (int64_t i = 0; i < 30; ++i) rows[i] = static_cast<float>(100 * (i / 5));
  args.op = IndexOp::scatter;
  args.data = rows.data();
  args.out = back.data();
  run_all_tiles(row, args);
  for (int64_t i = 0; i < 60; ++i) {
    float want = -1;
    for (int64_t r = 0; r < 6; ++r) {
      if (i >= first[r] && i < first[r] + 5) want = static_cast<float>(100 * r);
    }
    ASSERT_EQ(back[i], want) << i;
  }
  indices[3] = 4;
  const BadIndex bad = first_bad_index(args);
  EXPECT_EQ(bad.at, 3);
  EXPECT_EQ(bad.index, 4);
  EXPECT_EQ(bad.extent, 4);
}

void check_one_hot(const IndexRow& row) {
  const int64_t outer = 3, inner = 4, depth = 5;
  Guarded<int32_t> indices(outer * inner);
  for (int64_t i = 0; i < indices.size(); ++i) indices[i] = static_cast<int32_t>(i - 6);
  Guarded<int16_t> values(2), out(outer * depth * inner);
  values[0] = 7, values[1] = 9;
  IndexArgs args{};
  args.op = IndexOp::one_hot;
  args.bytes = 2;
  args.index_bytes = 4;
  args.width = 1;
  args.data = values.data();
  args.indices = indices.data();
  args.out = out.data();
  args.rows = outer * inner;
  args.inner = args.block = 1;
  args.period = inner;
  args.extents[0] = depth;
  run_all_tiles(row, args);
  for (int64_t i = 0; i < out.size(); ++i) {
    const int64_t at = indices[i / inner / depth * inner + i % inner];
    const int64_t d = i / inner % depth;
    ASSERT_EQ(out[i], at == d || at + depth == d ? 9 : 7) << i;
  }
}

void check_index(const IndexRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const int64_t shapes[][4] = {
      {1, 5, 1, 1}, {3, 7, 1, 20}, {2, 4, 9, 3}, {1, 300, 64, 500}, {4, 2, 9000, 2}};
  for (const auto& [outer, extent, inner, count] : shapes) {
    check_gather<uint8_t, int32_t>(row, outer, extent, inner, count);
    check_gather<uint16_t, int64_t>(row, outer, extent, inner, count);
    check_gather<uint32_t, int64_t>(row, outer, extent, inner, count);
    check_gather<uint64_t, int32_t>(row, outer, extent, inner, count);
  }
  check_coordinates(row);
  check_one_hot(row);
}

#define PLANCK_INDEX(name, isa) \
  TEST(Index, name) { check_index(index_row(#name)); }
#include "kernels/index/kernels.inc"
#undef PLANCK_INDEX

// ---- lanes ----------------------------------------------------------------------------------

void run_lane(const LaneRow& row, const LaneArgs& args) {
  Guarded<int64_t> order(args.count);
  Worker worker;
  worker.scratch = reinterpret_cast<std::byte*>(order.data());
  EXPECT_GE(order.size() * 8, scratch_bytes(args));
  for (int64_t tile = row.tiles(args); tile-- > 0;) row.run(&args, tile, worker);
}

template <class T>
void check_sums(const LaneRow& row, LaneArgs args, const Guarded<T>& x) {
  Guarded<T> out(x.size());
  args.op = LaneOp::sum;
  args.x = x.data();
  args.out = out.data();
  for (int mode = 0; mode < 4; ++mode) {
    args.exclusive = (mode & 1) != 0;
    args.reverse = (mode & 2) != 0;
    run_lane(row, args);
    for (int64_t i = 0; i < x.size(); ++i) {
      const int64_t at = i / args.inner % args.count, lane = i - at * args.inner;
      const int64_t from = args.reverse ? at + args.exclusive : 0;
      const int64_t to = args.reverse ? args.count : at + !args.exclusive;
      double sum = 0;
      for (int64_t k = from; k < to; ++k) sum += static_cast<double>(x[lane + k * args.inner]);
      ASSERT_NEAR(static_cast<double>(out[i]), sum, 1e-6 * std::fabs(sum) + 1e-6) << i;
    }
  }
}

template <class T>
void check_order(const LaneRow& row, LaneArgs args, const Guarded<T>& x) {
  Guarded<T> out(args.outer * args.k * args.inner);
  Guarded<int64_t> indices(out.size()), best(args.outer * args.inner);
  args.x = x.data();
  for (const bool largest : {true, false}) {
    args.largest = largest;
    args.op = LaneOp::top;
    args.out = out.data();
    args.indices = indices.data();
    run_lane(row, args);
    args.op = LaneOp::arg;
    args.indices = best.data();
    run_lane(row, args);
    for (int64_t o = 0; o < args.outer * args.inner; ++o) {
      const int64_t outer = o / args.inner, lane = o % args.inner;
      const auto at = [&](int64_t i) { return x[(outer * args.count + i) * args.inner + lane]; };
      std::vector<int64_t> order(static_cast<size_t>(args.count));
      std::iota(order.begin(), order.end(), int64_t{0});
      std::ranges::stable_sort(
          order, [&](int64_t i, int64_t j) { return largest ? at(i) > at(j) : at(i) < at(j); });
      ASSERT_EQ(best[o], order[0]);
      for (int64_t i = 0; i < args.k; ++i) {
        const int64_t place = (outer * args.k + i) * args.inner + lane;
        ASSERT_EQ(indices[place], order[static_cast<size_t>(i)]);
        ASSERT_EQ(out[place], at(order[static_cast<size_t>(i)]));
      }
    }
  }
}

template <class T>
void check_lanes(const LaneRow& row, LaneType type) {
  const int64_t shapes[][4] = {{1, 1, 1, 1}, {3, 10, 1, 3}, {2, 5, 7, 5}, {2, 40, 130, 1}};
  for (const auto& [outer, count, inner, k] : shapes) {
    SCOPED_TRACE(cat(outer, " x ", count, " x ", inner));
    Guarded<T> x(outer * count * inner);
    std::mt19937 random(3);
    for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(random() % 9) - 4;
    LaneArgs args{};
    args.type = type;
    args.outer = outer, args.count = count, args.inner = inner, args.k = k;
    check_sums(row, args, x);
    check_order(row, args, x);
  }
}

void check_nan(const LaneRow& row) {
  const float x[] = {1, kNotANumber, 5, kNotANumber, 5};
  float out[5];
  int64_t indices[5];
  LaneArgs args{};
  args.op = LaneOp::top;
  args.largest = true;
  args.x = x;
  args.out = out;
  args.indices = indices;
  args.outer = args.inner = 1;
  args.count = args.k = 5;
  run_lane(row, args);
  EXPECT_EQ(std::vector<int64_t>(indices, indices + 5), (std::vector<int64_t>{1, 3, 2, 4, 0}));
  args.op = LaneOp::arg;
  for (const bool largest : {true, false}) {
    args.largest = largest;
    args.last = false;
    run_lane(row, args);
    EXPECT_EQ(indices[0], 1);
    args.last = true;
    run_lane(row, args);
    EXPECT_EQ(indices[0], 3);
  }
}

void check_lane(const LaneRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  check_lanes<float>(row, LaneType::f32);
  check_lanes<int32_t>(row, LaneType::s32);
  check_lanes<int64_t>(row, LaneType::s64);
  check_nan(row);
}

#define PLANCK_LANE(name, isa) \
  TEST(Lane, name) { check_lane(lane_row(#name)); }
#include "kernels/lane/kernels.inc"
#undef PLANCK_LANE

}  // namespace
}  // namespace planck
