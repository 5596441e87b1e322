// Embedding sums with and without LayerNorm; ids of every view, negative ones and bad ones.
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/embed/rows.h"

namespace planck {
namespace {

constexpr int64_t kBatch = 3, kLength = 7, kRows = kBatch * kLength;

// A BERT-like embedding: words [batch, length] as int64, positions [1, length] as int32, and a
// constant token type.
struct EmbedData {
  explicit EmbedData(int64_t width)
      : n(width),
        words(50 * n),
        positions(kLength * n),
        type(n),
        gain(n),
        offset(n),
        out(kRows * n) {
    words.randomize(1), positions.randomize(2), type.randomize(3);
    gain.randomize(4), offset.randomize(5);
    for (int64_t r = 0; r < kRows; ++r) word_ids.push_back(r * 17 % 50 - (r % 4 == 0 ? 50 : 0));
    for (int32_t i = 0; i < kLength; ++i) position_ids.push_back(kLength - 1 - i);
  }
  EmbedArgs args(int32_t count, bool normalize) {
    EmbedArgs a{};
    a.tables[0] = {words.data(), 50, n, {word_ids.data(), 8, kLength, kLength, 1}};
    a.tables[1] = {positions.data(), kLength, n, {position_ids.data(), 4, kLength, 0, 1}};
    a.tables[2] = {type.data(), 1, n, {nullptr, 8, 1, 0, 0}};
    a.count = count, a.normalize = normalize;
    a.gain = gain.data(), a.offset = offset.data(), a.eps = 1e-12f;
    a.out = out.data(), a.rows = kRows, a.n = n, a.out_stride = n;
    return a;
  }
  float sum(int32_t count, int64_t r, int64_t i) const {
    const int64_t word = (word_ids[static_cast<size_t>(r)] + 50) % 50;
    float s = words[word * n + i];
    if (count > 1) s += positions[position_ids[static_cast<size_t>(r % kLength)] * n + i];
    return count > 2 ? s + type[i] : s;
  }
  int64_t n;
  GuardedFloats words, positions, type, gain, offset, out;
  std::vector<int64_t> word_ids;
  std::vector<int32_t> position_ids;
};

void expect_normalized(const EmbedData& d, int32_t count, int64_t r) {
  double mean = 0, var = 0;
  const double n = static_cast<double>(d.n);
  for (int64_t i = 0; i < d.n; ++i) mean += d.sum(count, r, i) / n;
  for (int64_t i = 0; i < d.n; ++i) var += std::pow(d.sum(count, r, i) - mean, 2) / n;
  for (int64_t i = 0; i < d.n; ++i) {
    const double unit = (d.sum(count, r, i) - mean) / std::sqrt(var + 1e-12);
    ASSERT_NEAR(d.out[r * d.n + i], unit * d.gain[i] + d.offset[i], 1e-6) << r << ", " << i;
  }
}

void check_row(const EmbedRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  for (const int64_t n : {2, 16, 33, 768}) {
    EmbedData d(n);
    for (const int32_t count : {1, 2, 3}) {
      SCOPED_TRACE(cat("n = ", n, ", tables ", count));
      run_all_tiles(row, d.args(count, false));
      for (int64_t i = 0; i < kRows * n; ++i) ASSERT_EQ(d.out[i], d.sum(count, i / n, i % n)) << i;
      run_all_tiles(row, d.args(count, true));
      for (int64_t r = 0; r < kRows; ++r) expect_normalized(d, count, r);
    }
  }
}

// Tables end at forbidden pages: a bad id that is followed ends in a fault.
void check_bad_ids(const EmbedRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  EmbedData d(20);
  const int64_t bad[] = {50, -51, INT64_MIN, INT64_MAX, 1 << 20};
  for (size_t i = 0; i < std::size(bad); ++i) d.word_ids[i + 4] = bad[i];
  const EmbedArgs a = d.args(3, true);
  EXPECT_EQ(first_bad_id(a.tables[0].ids, kRows, 50), 4);
  EXPECT_EQ(id_at(a.tables[0].ids, 4), 50);
  EXPECT_EQ(first_bad_id(a.tables[1].ids, kRows, kLength), -1);
  EXPECT_EQ(first_bad_id(a.tables[1].ids, kRows, kLength - 1), 0);
  EXPECT_EQ(first_bad_id(a.tables[2].ids, kRows, 1), -1);
  EXPECT_EQ(first_bad_id(a.tables[2].ids, kRows, 0), 0);
  run_all_tiles(row, a);
  for (int64_t i = 0; i < kRows * d.n; ++i) {
    const int64_t r = i / d.n;
    ASSERT_EQ(std::isnan(d.out[i]), r >= 4 && r < 9) << i;
  }
}

void check_bits(const EmbedRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  EmbedData got(100), expected(100);
  run_all_tiles(row, got.args(3, true));
  run_all_tiles(embed_row("embed_f32_64_portable"), expected.args(3, true));
  expect_same_bits(got.out.data(), expected.out.data(), kRows * 100);
}

#define PLANCK_EMBED(name, isa)                                \
  TEST(Embed, name) { check_row(embed_row(#name)); }           \
  TEST(EmbedBadIds, name) { check_bad_ids(embed_row(#name)); } \
  TEST(EmbedBits, name) { check_bits(embed_row(#name)); }
#include "kernels/embed/kernels.inc"
#undef PLANCK_EMBED

}  // namespace
}  // namespace planck
