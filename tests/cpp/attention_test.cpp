// Every attention row against a double softmax, between guard pages; bits equal between rows of the
// same family, blocks, batches and threads, and whether hidden keys are looked at or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/team.h"
#include "guarded.h"
#include "kernels/attention/live_keys.h"
#include "kernels/attention/rows.h"

namespace planck {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

enum class Mask { none, keys, full, strided };

struct Case {
  int64_t batch = 1, heads = 1, lq = 1, lk = 1, d = 1, dv = 1;
  Mask mask = Mask::none;
  float spread = 1;  // of q and k
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.batch << "x" << c.heads << " lq=" << c.lq << " lk=" << c.lk << " d=" << c.d
             << " dv=" << c.dv << " mask=" << static_cast<int>(c.mask);
}

// q, k and v as a transformer has them: [batch, length, heads, size], each between guard pages.
struct Problem {
  explicit Problem(const Case& test)
      : c(test),
        q(c.batch * c.lq * c.heads * c.d),
        k(c.batch * c.lk * c.heads * c.d),
        v(c.batch * c.lk * c.heads * c.dv),
        out(c.batch * c.lq * c.heads * c.dv),
        mask(c.mask == Mask::keys   ? c.batch * c.lk
             : c.mask == Mask::full ? c.batch * c.heads * c.lq * c.lk
                                    : c.batch * c.lk * 3) {
    q.randomize(1, c.spread), k.randomize(2, c.spread), v.randomize(3), mask.randomize(4, 2);
    args.batch = c.batch, args.heads = c.heads, args.lq = c.lq, args.lk = c.lk;
    args.d = c.d, args.dv = c.dv;
    args.q = q.data(), args.k = k.data(), args.v = v.data(), args.out = out.data();
    args.q_strides = {c.lq * c.heads * c.d, c.d, c.heads * c.d};
    args.k_strides = {c.lk * c.heads * c.d, c.d, c.heads * c.d};
    args.v_strides = {c.lk * c.heads * c.dv, c.dv, c.heads * c.dv};
    args.out_strides = {c.lq * c.heads * c.dv, c.dv, c.heads * c.dv};
    args.scale = 1 / std::sqrt(static_cast<float>(c.d));
    if (c.mask != Mask::none) args.mask = mask.data();
    if (c.mask == Mask::keys) args.mask_batch = c.lk, args.mask_key = 1;
    if (c.mask == Mask::strided) args.mask_batch = 3 * c.lk, args.mask_key = 3;
    if (c.mask == Mask::full) {
      args.mask_batch = c.heads * c.lq * c.lk, args.mask_head = c.lq * c.lk;
      args.mask_row = c.lk, args.mask_key = 1;
    }
  }

  std::vector<float> run(const AttentionRow& row, int threads = 1) {
    out.fill(12345);
    const Job job = plan_attention(row, args);
    Team team(threads, scratch_bytes(args));
    team.run({&job, 1});
    return {out.data(), out.data() + out.size()};
  }

  float mask_at(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return mask[b * args.mask_batch + h * args.mask_head + i * args.mask_row + j * args.mask_key];
  }

  std::vector<double> logits(int64_t b, int64_t h, int64_t i) const {
    std::vector<double> x(c.lk);
    for (int64_t j = 0; j < c.lk; ++j) {
      const float* query = q.data() + ((b * c.lq + i) * c.heads + h) * c.d;
      const float* key = k.data() + ((b * c.lk + j) * c.heads + h) * c.d;
      for (int64_t e = 0; e < c.d; ++e) x[j] += static_cast<double>(query[e]) * key[e];
      x[j] *= args.scale;
      if (args.mask != nullptr) x[j] += mask_at(b, h, i, j);
    }
    return x;
  }

  void expect_row(int64_t b, int64_t h, int64_t i) const {
    std::vector<double> p = logits(b, h, i);
    const double max = *std::ranges::max_element(p);
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x - max);
    // fp32 scores of size s err by about eps * d * s, which exp turns into a relative error.
    const double bound =
        1e-6 * (8 + c.spread * c.spread * std::sqrt(static_cast<double>(c.d)) * 0.2 +
                0.1 * static_cast<double>(c.lk) * 0.1);
    for (int64_t e = 0; e < c.dv; ++e) {
      double want = 0;
      for (int64_t j = 0; j < c.lk; ++j) {
        want += p[j] / sum * v[((b * c.lk + j) * c.heads + h) * c.dv + e];
      }
      ASSERT_NEAR(out[((b * c.lq + i) * c.heads + h) * c.dv + e], want, bound)
          << "item " << b << " head " << h << " query " << i << " column " << e;
    }
  }
  void expect_right() const {
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t i = 0; i < c.lq; ++i) expect_row(b, h, i);
      }
    }
  }

  Case c;
  GuardedFloats q, k, v, out, mask;
  AttentionArgs args;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int64_t l : {1, 2, 5, 15, 16, 17, 31, 33, 50}) {
    for (const int64_t d : {1, 3, 8, 20, 64}) {
      all.push_back({.batch = 2,
                     .heads = 2,
                     .lq = l,
                     .lk = l,
                     .d = d,
                     .dv = d,
                     .mask = static_cast<Mask>((l + d) % 4)});
    }
  }
  all.push_back({.heads = 3, .lq = 1, .lk = 77, .d = 24, .dv = 40, .mask = Mask::keys});
  all.push_back({.heads = 2, .lq = 130, .lk = 9, .d = 33, .dv = 7, .mask = Mask::full});
  all.push_back(
      {.batch = 2, .heads = 12, .lq = 128, .lk = 128, .d = 64, .dv = 64, .mask = Mask::keys});
  all.push_back({.heads = 1, .lq = 40, .lk = 1100, .d = 16, .dv = 16, .mask = Mask::full});
  all.push_back({.heads = 1, .lq = 16, .lk = 64, .d = 64, .dv = 64, .spread = 6});
  return all;
}

void check_row(const AttentionRow& row) {
  if (!this_device().has(row.isa)) GTEST_SKIP() << "this machine has no " << row.isa;
  for (const Case& c : cases()) {
    SCOPED_TRACE(testing::PrintToString(c));
    Problem problem(c);
    problem.run(row, 1 + static_cast<int>(c.lq % 3));
    problem.expect_right();
    if (testing::Test::HasFatalFailure()) return;
  }
}

#define PLANCK_ATTENTION(name, ...) \
  TEST(Attention, name) { check_row(attention_row(#name)); }
#include "kernels/attention/kernels.inc"
#undef PLANCK_ATTENTION

std::vector<const AttentionRow*> rows_here() {
  std::vector<const AttentionRow*> rows;
  for (const AttentionRow& row : attention_rows()) {
    if (this_device().has(row.isa)) rows.push_back(&row);
  }
  return rows;
}

TEST(AttentionBits, EqualBetweenRowsAndThreads) {
  for (const Mask mask : {Mask::none, Mask::keys, Mask::full, Mask::strided}) {
    for (const int64_t dv : {15, 28}) {
      const Case c{.batch = 2, .heads = 3, .lq = 37, .lk = 53, .d = 20, .dv = dv, .mask = mask};
      SCOPED_TRACE(testing::PrintToString(c));
      const std::vector<float> expected = Problem(c).run(*rows_here().front());
      for (const AttentionRow* row : rows_here()) {
        for (const int threads : {1, 2, 8}) {
          EXPECT_EQ(Problem(c).run(*row, threads), expected) << row->name << " " << threads;
        }
      }
    }
  }
}

TEST(AttentionBits, ItemAloneEqualsItemInBatch) {
  for (const AttentionRow* row : rows_here()) {
    // Twelve heads of one item against 36: another block of query rows is chosen.
    Problem whole(
        {.batch = 3, .heads = 4, .lq = 100, .lk = 45, .d = 16, .dv = 16, .mask = Mask::keys});
    const std::vector<float> all = whole.run(*row);
    const int64_t item = 100 * 4 * 16;
    for (int64_t b = 0; b < 3; ++b) {
      AttentionArgs args = whole.args;
      std::vector<float> alone(item);
      args.batch = 1;
      args.q += b * args.q_strides.batch, args.k += b * args.k_strides.batch;
      args.v += b * args.v_strides.batch, args.mask += b * args.mask_batch;
      args.out = alone.data();
      const Job job = plan_attention(*row, args);
      Team team(1, scratch_bytes(args));
      team.run({&job, 1});
      EXPECT_EQ(alone, std::vector<float>(all.begin() + b * item, all.begin() + (b + 1) * item));
    }
  }
}

TEST(AttentionMask, HidesWhatIsNoNumber) {
  for (const AttentionRow* row : rows_here()) {
    for (const float wild : {kInf, -kInf, std::nanf("")}) {
      Problem problem({.heads = 2, .lq = 20, .lk = 19, .d = 8, .dv = 9, .mask = Mask::full});
      problem.k[5 * 2 * 8] = wild;  // head 0, key 5
      for (int64_t i = 0; i < 20; ++i) problem.mask[i * 19 + 5] = -kInf;
      problem.args.masked_rows_zero = true;
      problem.run(*row);
      for (int64_t i = 0; i < 20 * 2 * 9; ++i) EXPECT_TRUE(std::isfinite(problem.out[i])) << i;
    }
  }
}

TEST(AttentionMask, RowsOfMinusInfinity) {
  for (const AttentionRow* row : rows_here()) {
    for (const bool zero : {false, true}) {
      Problem problem({.heads = 2, .lq = 20, .lk = 19, .d = 8, .dv = 9, .mask = Mask::full});
      for (int64_t j = 0; j < 19; ++j) problem.mask[7 * 19 + j] = -kInf;  // head 0, query 7
      problem.mask[3 * 19 + 2] = -kInf;                                   // one key of query 3
      problem.args.masked_rows_zero = zero;
      problem.run(*row);
      for (int64_t i = 0; i < 20; ++i) {
        if (i != 7) {
          problem.expect_row(0, 0, i);
          continue;
        }
        for (int64_t e = 0; e < 9; ++e) {
          const float x = problem.out[i * 2 * 9 + e];
          EXPECT_TRUE(zero ? x == 0 : std::isnan(x)) << row->name << " " << x;
        }
      }
    }
  }
}

// The smallest finite float as a mask: scores saturate, and a row of nothing else is a plain
// softmax of equal logits.
TEST(AttentionMask, LowestFiniteValue) {
  const float lowest = std::numeric_limits<float>::lowest();
  for (const AttentionRow* row : rows_here()) {
    Problem problem({.lq = 6, .lk = 35, .d = 8, .dv = 8, .mask = Mask::keys});
    for (int64_t j = 0; j < 35; ++j) problem.mask[j] = j < 20 ? 0 : lowest;
    problem.run(*row);
    problem.expect_right();
    for (int64_t j = 0; j < 35; ++j) problem.mask[j] = lowest;
    problem.run(*row);
    for (int64_t e = 0; e < 8; ++e) {
      double mean = 0;
      for (int64_t j = 0; j < 35; ++j) mean += problem.v[j * 8 + e] / 35.0;
      EXPECT_NEAR(problem.out[e], mean, 1e-6) << row->name;
    }
  }
}

TEST(AttentionMask, NanStaysInItsRow) {
  for (const AttentionRow* row : rows_here()) {
    Problem problem({.lq = 9, .lk = 21, .d = 8, .dv = 8});
    problem.q[4 * 8 + 1] = std::numeric_limits<float>::quiet_NaN();
    problem.run(*row);
    for (int64_t i = 0; i < 9; ++i) {
      if (i != 4) problem.expect_row(0, 0, i);
    }
    for (int64_t e = 0; e < 8; ++e) EXPECT_TRUE(std::isnan(problem.out[4 * 8 + e]));
  }
}

// --- keys that a mask hides ---------------------------------------------------------------------

// Which keys are hidden: all from a length on, those behind the query, or stretches between others.
enum class Hidden { tail, later, holes };

struct HiddenCase {
  Hidden hidden;
  int64_t lk, live;  // keys; of the first item those that are not hidden, for `tail`
  float value;       // of the mask where a key is hidden
  bool zero;         // masked_rows_zero
};

std::ostream& operator<<(std::ostream& out, const HiddenCase& c) {
  return out << "hidden=" << static_cast<int>(c.hidden) << " lk=" << c.lk << " live=" << c.live
             << " value=" << c.value << " zero=" << c.zero;
}

bool is_hidden(const HiddenCase& c, int64_t item, int64_t query, int64_t key) {
  if (c.hidden == Hidden::tail) return key >= std::max<int64_t>(c.live - 7 * item, 0);
  if (c.hidden == Hidden::later) return key > query;
  return (key / 16 + query / 30) % 3 != 0;
}

// The mask of a row, of a batch item and, but for a tail, of a query.
struct HiddenProblem {
  explicit HiddenProblem(const HiddenCase& test)
      : c(test),
        problem({.batch = 2, .heads = 2, .lq = 70, .lk = c.lk, .d = 12, .dv = 20}),
        queries(c.hidden == Hidden::tail ? 1 : 70) {
    mask.resize(2 * queries * c.lk);
    twice.resize(2 * mask.size());
    for (int64_t i = 0; i < static_cast<int64_t>(mask.size()); ++i) {
      const int64_t key = i % c.lk, query = i / c.lk % queries, item = i / c.lk / queries;
      const float small = 0.01F * static_cast<float>(i % 100);
      mask[i] = is_hidden(c, item, query, key) ? c.value : small;
    }
    problem.args.masked_rows_zero = c.zero;
  }

  // Steps of two from key to key are never searched for hidden keys.
  std::vector<float> run(const AttentionRow& row, bool search, int threads = 1) {
    for (size_t i = 0; i < mask.size(); ++i) twice[2 * i] = mask[i];
    const int64_t step = search ? 1 : 2;
    problem.args.mask = search ? mask.data() : twice.data();
    problem.args.mask_key = step;
    problem.args.mask_row = queries == 1 ? 0 : c.lk * step;
    problem.args.mask_batch = queries * c.lk * step;
    return problem.run(row, threads);
  }

  // Of the first item and head; what the first tile looks at.
  int64_t keys_left(const AttentionRow& row) {
    run(row, true);
    const AttentionArgs& args = problem.args;
    std::vector<uint8_t> flags(flags_bytes(args));
    const AttentionHead head{args.q, args.k, args.v, args.mask, args.out, nullptr};
    const int64_t rows = std::min(args.plan.block, args.lq);
    return find_live_keys(args, head, {0, rows}, flags.data()).count;
  }

  HiddenCase c;
  Problem problem;
  int64_t queries;
  std::vector<float> mask, twice;
};

void expect_same(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i])) {
      ASSERT_TRUE(std::isnan(got[i])) << i << ": " << got[i];
    } else {
      ASSERT_EQ(got[i], want[i]) << i;
    }
  }
}

std::vector<HiddenCase> hidden_cases() {
  std::vector<HiddenCase> all;
  for (const float value : {-kInf, -1e4F, -100.0F, std::numeric_limits<float>::lowest()}) {
    for (const bool zero : {false, true}) {
      for (const int64_t live : {0, 1, 16, 40}) {
        all.push_back({Hidden::tail, 150, live, value, zero});
      }
      all.push_back({Hidden::later, 150, 0, value, zero});
      all.push_back({Hidden::later, 40, 0, value, zero});
      all.push_back({Hidden::holes, 150, 0, value, zero});
      all.push_back({Hidden::holes, 500, 0, value, zero});
    }
  }
  return all;
}

TEST(AttentionHidden, SameBitsAsLookedAt) {
  for (const AttentionRow* row : rows_here()) {
    for (const HiddenCase& c : hidden_cases()) {
      SCOPED_TRACE(cat(row->name, ' ', testing::PrintToString(c)));
      HiddenProblem hidden(c);
      const std::vector<float> want = hidden.run(*row, false);
      expect_same(hidden.run(*row, true), want);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(AttentionHidden, SameBitsForAnyThreads) {
  HiddenProblem hidden({Hidden::later, 150, 0, -kInf, true});
  for (const AttentionRow* row : rows_here()) {
    const std::vector<float> want = hidden.run(*row, true);
    for (const int threads : {2, 5}) EXPECT_EQ(hidden.run(*row, true, threads), want);
  }
}

TEST(AttentionHidden, KeysAreLeftOut) {
  const AttentionRow& row = *rows_here().front();
  const float lowest = std::numeric_limits<float>::lowest();
  for (const float value : {-kInf, -1e4F, lowest}) {
    for (const bool zero : {false, true}) {
      if (zero && value != -kInf) continue;  // looks for -inf only
      EXPECT_EQ(HiddenProblem({Hidden::tail, 150, 40, value, zero}).keys_left(row), 48);
      EXPECT_EQ(HiddenProblem({Hidden::tail, 150, 150, value, zero}).keys_left(row), 150);
      EXPECT_EQ(HiddenProblem({Hidden::later, 150, 0, value, zero}).keys_left(row), 32)
          << "a tile has 32 queries, the last of which sees as many";
      const int64_t holes = HiddenProblem({Hidden::holes, 500, 0, value, zero}).keys_left(row);
      EXPECT_LT(holes, 500);
    }
  }
  EXPECT_EQ(HiddenProblem({Hidden::tail, 150, 0, -kInf, true}).keys_left(row), 16);
  EXPECT_EQ(HiddenProblem({Hidden::tail, 150, 40, -80, false}).keys_left(row), 150)
      << "exp of it is no zero";
}

// Scores that a mask of -inf would turn to NaN, values that 0 turns to NaN, and masks of no number.
TEST(AttentionHidden, NotWhereItWouldShow) {
  for (const AttentionRow* row : rows_here()) {
    for (const bool zero : {false, true}) {
      for (const float wild : {kInf, std::nanf(""), 3e38F}) {
        for (const int which : {0, 1, 2, 3}) {
          SCOPED_TRACE(cat(row->name, ' ', zero, ' ', wild, ' ', which));
          HiddenProblem hidden({Hidden::tail, 150, 20, -kInf, zero});
          Problem& p = hidden.problem;
          if (which == 0) p.q[3 * 2 * 12 + 1] = wild;
          if (which == 1) p.k[100 * 2 * 12 + 1] = wild;
          if (which == 2) p.v[100 * 2 * 20 + 1] = wild;
          if (which == 3) hidden.mask[100] = wild;
          const std::vector<float> want = hidden.run(*row, false);
          expect_same(hidden.run(*row, true), want);
        }
      }
    }
  }
}

TEST(AttentionRows, NoKeysGiveZeros) {
  for (const AttentionRow* row : rows_here()) {
    Problem problem({.lq = 3, .lk = 0, .d = 4, .dv = 5});
    for (const float x : problem.run(*row)) EXPECT_EQ(x, 0);
  }
}

TEST(AttentionRows, Reasons) {
  Device none;
  EXPECT_EQ(why_not(attention_rows().back(), {}, none), "");
  EXPECT_EQ(why_not(attention_row("attention_f32_6x16_avx2"), {}, none),
            "this machine has no avx2");
  EXPECT_NE(why_not(attention_rows().back(), {.dtype = DType::f16}, none), "");
  EXPECT_THROW(attention_row("attention_to_detail"), UsageError);
}

}  // namespace
}  // namespace planck
