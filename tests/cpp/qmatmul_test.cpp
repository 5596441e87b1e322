// Every row of the integer products against 64-bit sums, bit for bit, between guard pages; bits
// equal between cuts and threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/team.h"
#include "byte_pictures.h"
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/qmatmul/rows.h"
#include "kernels/qwinograd/rows.h"

namespace planck {
namespace {

struct Case {
  int64_t m = 1, n = 1, k = 1;
  bool bias = false, residual = false, relu = false, bytes = false, transposed = false;
  int64_t pad = 0;  // of every pitch
  Values values = Values::random;
  int32_t out_zero = 0, low = 0, high = 255;
  QmatmulCut cut = {};
  uint32_t seed = 1;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "m=" << c.m << " n=" << c.n << " k=" << c.k << " bias=" << c.bias
             << " residual=" << c.residual << " relu=" << c.relu << " bytes=" << c.bytes
             << " transposed=" << c.transposed << " pad=" << c.pad
             << " values=" << static_cast<int>(c.values) << " out=" << c.out_zero << "," << c.low
             << "," << c.high << " cut=" << c.cut.m_block << "," << c.cut.panels
             << " seed=" << c.seed;
}

// The last element of a row is the last of its buffer: a pitch is not padded behind the last row.
int64_t extent(int64_t rows, int64_t columns, int64_t pitch) {
  return rows == 0 ? 0 : (rows - 1) * pitch + columns;
}

// What comes after the sums, and where it goes.
struct Epilogue {
  Epilogue(const Case& test, int64_t rows)
      : c(test),
        m(rows),
        c_pitch(c.n + 2 * c.pad),
        r_pitch(c.n + 3 * c.pad),
        offset(c.n),
        multiplier(c.n),
        bias(c.n),
        residual(extent(m, c.n, r_pitch)),
        out(extent(m, c.n, c_pitch)),
        out_bytes(extent(m, c.n, c_pitch)) {
    std::mt19937 random(c.seed + 3);
    for (int64_t j = 0; j < c.n; ++j) offset[j] = static_cast<int32_t>(random()) / 1000;
    multiplier.randomize(c.seed + 4, c.bytes ? 0.01F : 1), bias.randomize(c.seed + 5, 50);
    residual.randomize(c.seed + 6, 50);
    multiplier.read_only(), bias.read_only(), residual.read_only();
    poison();
  }
  static constexpr float kPoison = 12345;
  static constexpr uint8_t kBytePoison = 0xA5;

  void poison() {
    out.fill(kPoison);
    std::memset(out_bytes.data(), kBytePoison, static_cast<size_t>(out_bytes.size()));
  }

  void fill(QmatmulArgs& args) const {
    args.m = m, args.n = c.n;
    args.offset = offset.data(), args.multiplier = multiplier.data();
    args.c_stride = c_pitch;
    if (c.bias) args.bias = bias.data();
    if (c.residual) args.residual = residual.data(), args.residual_stride = r_pitch;
    args.relu = c.relu;
    args.requantize = c.bytes;
    args.out_zero = c.out_zero, args.low = c.low, args.high = c.high;
    if (c.bytes) {
      args.c_bytes = out_bytes.data();
    } else {
      args.c = out.data();
    }
    args.cut = c.cut;
  }

  // The bits that element [i, j] must have, from the exact sum without the offset.
  float value(int64_t i, int64_t j, int64_t sum) const {
    const int64_t all = sum + offset[j];
    EXPECT_EQ(static_cast<int32_t>(all), all) << "the case leaves 32 bits";
    float x = static_cast<float>(all) * multiplier[j];
    if (c.bias) x += bias[j];
    if (c.residual) x += residual[i * r_pitch + j];
    return c.relu && x < 0 ? 0 : x;
  }
  uint8_t byte(float x) const {
    const double rounded = std::nearbyint(static_cast<double>(x)) + c.out_zero;
    return static_cast<uint8_t>(std::clamp<double>(rounded, c.low, c.high));
  }

  void expect(int64_t i, int64_t j, int64_t sum) const {
    const float want = value(i, j, sum);
    if (c.bytes) {
      ASSERT_EQ(out_bytes[i * c_pitch + j], byte(want)) << "row " << i << " column " << j;
    } else {
      ASSERT_TRUE(same_bits(out[i * c_pitch + j], want))
          << out[i * c_pitch + j] << " for " << want << ", row " << i << " column " << j;
    }
  }
  void expect_padding_untouched() const {
    for (int64_t i = 0; i + 1 < m; ++i) {
      for (int64_t j = c.n; j < c_pitch; ++j) {
        ASSERT_EQ(out[i * c_pitch + j], kPoison);
        ASSERT_EQ(out_bytes[i * c_pitch + j], kBytePoison);
      }
    }
  }

  std::vector<float> result() const {
    std::vector<float> all;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        all.push_back(c.bytes ? static_cast<float>(out_bytes[i * c_pitch + j])
                              : out[i * c_pitch + j]);
      }
    }
    return all;
  }

  Case c;
  int64_t m, c_pitch, r_pitch;
  Guarded<int32_t> offset;
  GuardedFloats multiplier, bias, residual, out;
  GuardedBytes out_bytes;
};

void run_job(const Job& job, const QmatmulArgs& args, int threads) {
  Team(threads, scratch_bytes(args)).run({&job, 1});
}

struct Problem {
  explicit Problem(const Case& test)
      : c(test), a_pitch(c.k + c.pad), a(extent(c.m, c.k, a_pitch)), b(c.k * c.n), end(c, c.m) {
    randomize(a, c.values, c.seed), randomize(b, c.values, c.seed + 1);
  }

  int64_t row_stride() const { return c.transposed ? 1 : c.n; }
  int64_t column_stride() const { return c.transposed ? c.k : 1; }
  std::unique_ptr<Guarded<int8_t>> packed(const QmatmulRow& row) const {
    auto to = std::make_unique<Guarded<int8_t>>(packed_bytes(row, c.n, c.k));
    pack_b(row, c.n, c.k, b.data(), row_stride(), column_stride(), to->data());
    return to;
  }
  QmatmulArgs args(const QmatmulRow& row) {
    QmatmulArgs args;
    args.k = c.k;
    args.a = a.data(), args.a_stride = a_pitch;
    packed_b = packed(row);
    args.b = packed_b->data();
    args.next = {packed_b->data(), packed_b->size()};
    end.fill(args);
    return args;
  }
  void run(const QmatmulRow& row, int threads = 1) {
    QmatmulArgs args = this->args(row);
    const Job job = plan_qmatmul(row, args);
    run_job(job, args, threads);
  }

  void expect_right() const {
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        int64_t sum = 0;
        for (int64_t k = 0; k < c.k; ++k) {
          sum += int64_t{a[i * a_pitch + k]} * b[k * row_stride() + j * column_stride()];
        }
        end.expect(i, j, sum);
      }
    }
  }

  Case c;
  int64_t a_pitch;
  GuardedBytes a;
  Guarded<int8_t> b;
  Epilogue end;
  std::unique_ptr<Guarded<int8_t>> packed_b;
};

Case random_case(std::mt19937& random) {
  const auto up_to = [&](int64_t n) { return static_cast<int64_t>(random() % n) + 1; };
  const auto coin = [&] { return random() % 2 == 0; };
  Case c;
  c.m = up_to(random() % 4 == 0 ? 60 : 14), c.n = up_to(130);
  c.k = random() % 8 == 0 ? up_to(400) : up_to(40) - 1;
  c.bias = coin(), c.residual = coin(), c.relu = coin(), c.bytes = coin(), c.transposed = coin();
  c.pad = coin() ? 0 : up_to(5);
  c.values = static_cast<Values>(random() % 4);
  if (coin()) c.out_zero = static_cast<int32_t>(random() % 256);
  if (coin()) c.low = static_cast<int32_t>(random() % 100), c.high = c.low + 40;
  if (coin()) c.cut = {up_to(20), up_to(4)};
  c.seed = random();
  return c;
}

std::string missing(const QmatmulRow& row) { return why_not(row, {}, this_device()); }
// Of a convolution that every row takes.
std::string missing_for_windows(const QmatmulRow& row) {
  return why_not(row, {.winograd = {.on = true, .rows = 1, .columns = 1}}, this_device());
}

void check_row(const QmatmulRow& row) {
  if (const std::string reason = missing(row); !reason.empty()) GTEST_SKIP() << reason;
  std::mt19937 random(20);
  for (int i = 0; i < 500; ++i) {
    const Case c = random_case(random);
    SCOPED_TRACE(testing::PrintToString(c));
    Problem problem(c);
    problem.run(row, 1 + i % 3);
    problem.expect_right();
    problem.end.expect_padding_untouched();
    if (testing::Test::HasFatalFailure()) return;
  }
}

#define PLANCK_QMATMUL(name, ...) \
  TEST(Qmatmul, name) { check_row(qmatmul_row(#name)); }
#include "kernels/qmatmul/kernels.inc"
#undef PLANCK_QMATMUL

std::vector<const QmatmulRow*> rows_here() {
  std::vector<const QmatmulRow*> rows;
  for (const QmatmulRow& row : qmatmul_rows()) {
    if (missing(row).empty()) rows.push_back(&row);
  }
  return rows;
}

TEST(QmatmulBits, EveryHeightAndWidth) {
  for (const QmatmulRow* row : rows_here()) {
    for (int64_t m = 1; m <= 2 * row->tile_m + 1; ++m) {
      for (const bool bytes : {false, true}) {
        const Case c{.m = m, .n = 13 * row->tile_n + 5, .k = 19, .bias = true, .bytes = bytes};
        SCOPED_TRACE(cat(row->name, ' ', testing::PrintToString(c)));
        Problem problem(c);
        problem.run(*row);
        problem.expect_right();
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(QmatmulBits, LongSumsOfExtremes) {
  for (const QmatmulRow* row : rows_here()) {
    for (const int8_t weight : {int8_t{-128}, int8_t{127}}) {
      const int64_t k = weight < 0 ? 65000 : 66000;
      Problem problem({.m = 3, .n = 5, .k = k});
      for (int64_t i = 0; i < problem.a.size(); ++i) problem.a[i] = 255;
      for (int64_t i = 0; i < problem.b.size(); ++i) problem.b[i] = weight;
      for (int64_t j = 0; j < 5; ++j) problem.end.offset[j] = static_cast<int32_t>(j) - 2;
      problem.run(*row);
      problem.expect_right();
    }
  }
}

// Pairs of weights at the edge of 16 bits, and one beyond, in one column of a panel.
TEST(QmatmulBits, PairsAtTheEdge) {
  constexpr int8_t kPairs[][2] = {{64, 64},   {127, 1},  {127, 2},    {-64, -64}, {-128, 0},
                                  {-127, -1}, {-128, 1}, {-128, 127}, {-128, -1}, {100, 100}};
  for (const QmatmulRow* row : rows_here()) {
    for (const auto& pair : kPairs) {
      for (const int64_t at : {0, 2, 5}) {  // beside each other in a pair, or in two
        Problem problem({.m = 7, .n = 40, .k = 12, .values = Values::small});
        for (int64_t i = 0; i < problem.a.size(); ++i) problem.a[i] = 255;
        problem.b[at * 40 + 17] = pair[0];
        problem.b[(at + 1) * 40 + 17] = pair[1];
        problem.run(*row);
        problem.expect_right();
        ASSERT_FALSE(testing::Test::HasFatalFailure()) << row->name << " " << int{pair[0]};
      }
    }
  }
}

// Weights of which few sums leave 16 bits, with the largest bytes of A; k of several blocks, with
// and without a tail.
TEST(QmatmulBits, FewSumsBeyondSixteenBits) {
  for (const QmatmulRow* row : rows_here()) {
    for (const int64_t k : {64, 515, 1028, 1543}) {
      for (const int64_t m : {1, 17, 70}) {
        Problem problem({.m = m, .n = 37, .k = k, .values = Values::trained});
        for (int64_t i = 0; i < problem.a.size(); ++i) problem.a[i] |= i % 3 == 0 ? 0 : 255;
        problem.run(*row, 2);
        problem.expect_right();
        ASSERT_FALSE(testing::Test::HasFatalFailure()) << row->name << " m=" << m << " k=" << k;
      }
    }
  }
}

TEST(QmatmulBits, EqualBetweenCutsAndThreads) {
  for (const QmatmulRow* row : rows_here()) {
    for (const bool bytes : {false, true}) {
      Case c{.m = 61, .n = 230, .k = 190, .bias = true, .residual = true, .bytes = bytes};
      c.values = Values::trained;
      Problem first(c);
      first.run(*row);
      for (const QmatmulCut cut : {QmatmulCut{0, 0}, {1, 1}, {7, 2}, {61, 3}, {20, 9}}) {
        for (const int threads : {1, 2, 3, 5, 8}) {
          c.cut = cut;
          Problem problem(c);
          problem.run(*row, threads);
          EXPECT_EQ(problem.end.result(), first.end.result()) << row->name << " " << c;
        }
      }
    }
  }
}

// What leaves int32, and what is no number, before it becomes a byte.
TEST(QmatmulEpilogue, BytesSaturateAndNanIsTheLowest) {
  for (const QmatmulRow* row : rows_here()) {
    Problem problem({.m = 4, .n = 5, .k = 8, .bytes = true, .out_zero = 3, .low = 2, .high = 250});
    QmatmulArgs args = problem.args(*row);
    const std::vector<float> multiplier(5, 0),
        bias{kInfinity, -kInfinity, kNotANumber, 3e9F, -1e30F};
    args.multiplier = multiplier.data(), args.bias = bias.data();
    const Job job = plan_qmatmul(*row, args);
    run_job(job, args, 1);
    const std::vector<float> want{250, 2, 2, 250, 2};
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < 5; ++j) {
        EXPECT_EQ(problem.end.out_bytes[i * 5 + j], want[static_cast<size_t>(j)]) << row->name;
      }
    }
  }
}

// The same behind a program that divides, by a scale that has an inverse and by one that is too
// small for that.
TEST(QmatmulEpilogue, QuotientsSaturateAndNanIsTheLowest) {
  for (const QmatmulRow* row : rows_here()) {
    for (const float scale : {0.37F, 1e-36F}) {
      Problem problem({.m = 9, .n = 6, .k = 8, .bytes = true});
      TileProgram program;
      program.operands = {Broadcast::none};
      const int16_t x = program.apply(TileOp::relu, program.operand(0));
      program.apply(TileOp::quantize_u8, x, program.constant(scale), program.constant(0));
      const EltProgram compiled = compile(program);
      QmatmulArgs args = problem.args(*row);
      args.requantize = false, args.program = &compiled;
      const std::vector<float> multiplier(6, 0),
          bias{kInfinity, -kInfinity, kNotANumber, 3e38F, -3e38F, 10.5F * scale};
      args.multiplier = multiplier.data(), args.bias = bias.data();
      const Job job = plan_qmatmul(*row, args);
      EXPECT_EQ((args.plan.flags & jit::kQInverse) != 0, scale > 1e-30F);
      run_job(job, args, 1);
      const std::vector<float> want{255, 0, 0, 255, 0, 10};
      for (int64_t e = 0; e < 9 * 6; ++e) {
        EXPECT_EQ(problem.end.out_bytes[e], want[static_cast<size_t>(e % 6)]) << row->name;
      }
    }
  }
}

TEST(QmatmulEpilogue, TiesGoToEven) {
  for (const QmatmulRow* row : rows_here()) {
    Problem problem({.m = 2, .n = 6, .k = 8, .bytes = true, .out_zero = 10});
    QmatmulArgs args = problem.args(*row);
    const std::vector<float> multiplier(6, 0), bias{0.5F, 1.5F, 2.5F, -0.5F, -1.5F, -2.5F};
    args.multiplier = multiplier.data(), args.bias = bias.data();
    const Job job = plan_qmatmul(*row, args);
    run_job(job, args, 1);
    const std::vector<uint8_t> want{10, 12, 12, 10, 8, 8};
    for (int64_t e = 0; e < 12; ++e) EXPECT_EQ(problem.end.out_bytes[e], want[e % 6]) << row->name;
  }
}

// Kernels that end in a GELU give the bits of the product followed by the program.
TEST(QmatmulEpilogue, GeluInTheKernelEqualsTheProgram) {
  TileProgram program;
  program.operands = {Broadcast::none};
  program.apply(TileOp::gelu_erf, program.operand(0));
  const EltProgram compiled = compile(program);
  for (const QmatmulRow* row : rows_here()) {
    const Case c{.m = 2 * row->tile_m + 1, .n = 3 * row->tile_n + 5, .k = 40, .bias = true};
    Problem plain(c), problem(c);
    plain.run(*row);
    std::vector<float> want = plain.end.result();
    const EltOperand operand{want.data(), c.n, 1};
    best_row(eltwise_rows()).strip(compiled, {&operand, want.data(), c.n, c.m, c.n});
    QmatmulArgs args = problem.args(*row);
    args.program = &compiled;
    const Job job = plan_qmatmul(*row, args);
    run_job(job, args, 1);
    EXPECT_EQ(problem.end.result(), want) << row->name;
  }
}

TEST(QmatmulEpilogue, ProgramReadsOperands) {
  TileProgram program;  // product * scale[column] + full
  program.operands = {Broadcast::none, Broadcast::per_column, Broadcast::none};
  const int16_t scaled = program.apply(TileOp::mul, program.operand(0), program.operand(1));
  program.apply(TileOp::add, scaled, program.operand(2));
  const EltProgram compiled = compile(program);
  const int64_t m = 31, n = 145;
  GuardedFloats scale(n), full(2 * m * n), out(2 * m * n);
  scale.randomize(5), full.randomize(7);
  for (const QmatmulRow* row : rows_here()) {
    const Case c{.m = m, .n = n, .k = 20, .cut = {8, 1}};
    Problem plain(c), problem(c);
    plain.run(*row);
    QmatmulArgs args = problem.args(*row);
    args.c = out.data(), args.program = &compiled;
    args.operands[1] = {scale.data(), 0, 1};
    args.operands[2] = {full.data(), n, 1};
    args.batch_rank = 1;
    args.batch[0] = {.extent = 2, .c = m * n, .operands = {0, 0, m * n}};
    const Job job = plan_qmatmul(*row, args);
    run_job(job, args, 2);
    for (int64_t e = 0; e < 2 * m * n; ++e) {
      const float product = plain.end.out[e % (m * n)];
      ASSERT_EQ(out[e], product * scale[e % n] + full[e]) << row->name << " element " << e;
    }
  }
}

// --- programs that read and end in bytes

enum class Act { none, relu, gelu, hard_swish, tanh };  // tanh: no kernel ends in it
struct Tail {
  bool residual;
  Act act;
  bool bytes;
  bool before = false, after = false;  // affines
};
constexpr float kResidualZero = 117, kResidualScale = 0.21F, kOutScale = 0.37F, kOutZero = 44;

TileProgram program_of(const Tail& tail) {
  TileProgram p;
  p.operands = {Broadcast::none};
  int16_t x = p.operand(0);
  if (tail.residual) {
    p.operands.push_back(Broadcast::none);
    const int16_t centred = p.apply(TileOp::sub, p.operand(1), p.constant(kResidualZero));
    x = p.apply(TileOp::add, x, p.apply(TileOp::mul, centred, p.constant(kResidualScale)));
  }
  if (tail.before) {
    x = p.apply(TileOp::add, p.apply(TileOp::mul, x, p.constant(0.31F)), p.constant(-0.7F));
  }
  if (tail.act == Act::relu) x = p.apply(TileOp::relu, x);
  if (tail.act == Act::hard_swish) x = p.apply(TileOp::hard_swish, x);
  if (tail.act == Act::gelu) x = p.apply(TileOp::gelu_erf, x);
  if (tail.act == Act::tanh) x = p.apply(TileOp::tanh, x);
  if (tail.after) {
    x = p.apply(TileOp::add, p.constant(1.3F), p.apply(TileOp::mul, p.constant(-2.1F), x));
  }
  if (tail.bytes) {
    p.apply(TileOp::quantize_u8, x, p.constant(kOutScale), p.constant(kOutZero));
  }
  return p;
}

// The kernel's own end, or the program over a chunk, against the program over all of the product.
void check_tail(const QmatmulRow& row, const Tail& tail, const Case& c) {
  const EltProgram compiled = compile(program_of(tail));
  GuardedBytes residual(c.m * c.n), want_bytes(c.m * c.n);
  randomize(residual, Values::random, 9);
  Problem plain(c), problem(c);
  plain.run(row);
  std::vector<float> want = plain.end.result();
  EltOperand operands[kEltOperands] = {};
  operands[1] = {residual.data(), c.n, 1, EltType::u8};
  operands[0] = {want.data(), c.n, 1};
  EltStrip strip{operands, want.data(), c.n, c.m, c.n};
  if (tail.bytes) strip.out = want_bytes.data(), strip.out_type = EltType::u8;
  best_row(eltwise_rows()).strip(compiled, strip);
  QmatmulArgs args = problem.args(row);
  args.program = &compiled;
  args.operands[1] = operands[1];
  if (tail.bytes) args.c_bytes = problem.end.out_bytes.data(), args.c = nullptr;
  const Job job = plan_qmatmul(row, args);
  const bool generated =
      tail.act == Act::gelu || tail.act == Act::hard_swish || tail.before || tail.after;
  const bool known = tail.act != Act::tanh && (!generated || row.isa != Isa::portable);
  EXPECT_EQ(args.plan.strip == nullptr, known) << "who runs the program";
  run_job(job, args, 2);
  for (int64_t e = 0; e < c.m * c.n; ++e) {
    if (tail.bytes) {
      ASSERT_EQ(problem.end.out_bytes[e], want_bytes[e]) << "element " << e;
    } else {
      ASSERT_TRUE(same_bits(problem.end.out[e], want[static_cast<size_t>(e)])) << "element " << e;
    }
  }
}

TEST(QmatmulEpilogue, BytesInAndOutEqualTheProgram) {
  for (const QmatmulRow* row : rows_here()) {
    for (const bool residual : {false, true}) {
      for (const Act act : {Act::none, Act::relu, Act::gelu, Act::hard_swish, Act::tanh}) {
        for (const bool bytes : {false, true}) {
          if (!residual && !bytes && act == Act::none) continue;  // no program
          for (const int64_t m : {int64_t{1}, int64_t{row->tile_m} + 3, int64_t{70}}) {
            SCOPED_TRACE(cat(row->name, " residual=", residual, " act=", static_cast<int>(act),
                             " bytes=", bytes, " m=", m));
            check_tail(*row, {residual, act, bytes}, {.m = m, .n = 110, .k = 24, .bias = true});
            if (testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST(QmatmulEpilogue, AffinesAroundAFunctionEqualTheProgram) {
  for (const QmatmulRow* row : rows_here()) {
    for (const Act act : {Act::none, Act::relu, Act::hard_swish}) {
      for (int i = 1; i < 16; ++i) {
        const bool before = (i & 1) != 0, after = (i & 2) != 0;
        const Tail tail{(i & 4) != 0, act, (i & 8) != 0, before, after};
        if (!before && !after && act != Act::hard_swish) continue;
        SCOPED_TRACE(cat(row->name, " act=", static_cast<int>(act), " parts=", i));
        check_tail(*row, tail, {.m = row->tile_m + 3, .n = 110, .k = 24, .bias = true});
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

// --- windows

struct Convolution {
  Convolution(const Picture& picture, const Case& test)
      : p(picture),
        c(test),
        windows{p.y, p.x, p.channels, p.image_step()},
        x(p.size()),
        w(windows.k() * c.n),
        end(c, p.outputs()) {
    randomize(x, c.values, c.seed), randomize(w, c.values, c.seed + 1);
  }

  QmatmulArgs args(const QmatmulRow& row) {
    QmatmulArgs args;
    args.k = windows.k();
    packed = std::make_unique<Guarded<int8_t>>(packed_bytes(row, c.n, args.k));
    pack_b(row, c.n, args.k, w.data(), c.n, 1, packed->data());
    args.a = x.data(), args.windows = &windows;
    if (c.seed % 2 == 0) {
      args.zero = kZero;
    } else {
      args.zero_at = &kZero;  // as a run finds it
    }
    args.b = packed->data();
    end.fill(args);
    return args;
  }
  void run(const QmatmulRow& row, int threads) {
    QmatmulArgs args = this->args(row);
    const Job job = plan_qmatmul(row, args);
    ++sources[args.plan.source];
    run_job(job, args, threads);
  }

  void expect_right() const {
    for (int64_t o = 0; o < p.outputs(); ++o) {
      for (int64_t j = 0; j < c.n; ++j) {
        int64_t sum = 0;
        for (int64_t t = 0; t < p.taps(); ++t) {
          const int64_t at = p.at(o, t);
          for (int64_t channel = 0; channel < p.channels; ++channel) {
            const int64_t value = at < 0 ? kZero : x[at + channel];
            sum += value * w[(t * p.channels + channel) * c.n + j];
          }
        }
        end.expect(o, j, sum);
      }
    }
  }

  static constexpr uint8_t kZero = 131;
  static std::map<QmatmulArgs::Plan::Source, int> sources;  // how often each was chosen
  Picture p;
  Case c;
  MatmulWindows windows;
  GuardedBytes x;
  Guarded<int8_t> w;
  Epilogue end;
  std::unique_ptr<Guarded<int8_t>> packed;
};
std::map<QmatmulArgs::Plan::Source, int> Convolution::sources;

TEST(QmatmulWindows, EveryRowIsRight) {
  for (const QmatmulRow* row : rows_here()) {
    Convolution::sources.clear();
    std::mt19937 random(7);
    for (int i = 0; i < 300; ++i) {
      Case test = random_case(random);
      test.n = std::min<int64_t>(test.n, 50);
      Convolution convolution(picture_of(random), test);
      SCOPED_TRACE(cat(row->name, ' ', testing::PrintToString(convolution.p), ' ',
                       testing::PrintToString(test)));
      convolution.run(*row, 1 + i % 3);
      convolution.expect_right();
      convolution.end.expect_padding_untouched();
      if (testing::Test::HasFatalFailure()) return;
    }
    const size_t ways = row->unit == QmatmulUnit::widen ? 2 : 4;
    EXPECT_EQ(Convolution::sources.size(), ways) << "a way to read windows was never chosen";
  }
}

// --- Winograd

std::vector<const QmatmulRow*> winograd_rows() {
  std::vector<const QmatmulRow*> rows;
  for (const QmatmulRow& row : qmatmul_rows()) {
    if (is_winograd(row.unit) && missing_for_windows(row).empty()) rows.push_back(&row);
  }
  return rows;
}

// Windows of 3 x 3 over any picture, far from its edges or wholly outside.
Picture picture_for_winograd(std::mt19937& random) {
  const auto up_to = [&](int64_t n) { return static_cast<int64_t>(random() % n) + 1; };
  Picture p;
  p.images = up_to(2);
  p.channels = random() % 3 == 0 ? up_to(70) : up_to(20);
  p.gap = random() % 3 == 0 ? 3 : 0;
  for (WindowSteps* axis : {&p.y, &p.x}) {
    axis->in = up_to(17), axis->kernel = 3, axis->begin = up_to(3) - 1, axis->out = up_to(19);
    if (random() % 2 == 0) axis->begin = 1, axis->out = axis->in;
  }
  p.set_steps();
  return p;
}

TEST(QmatmulWinograd, EveryRowIsRight) {
  for (const QmatmulRow* row : winograd_rows()) {
    std::mt19937 random(9);
    for (int i = 0; i < 150; ++i) {
      Case test = random_case(random);
      test.n = std::min<int64_t>(test.n, 50);
      Convolution convolution(picture_for_winograd(random), test);
      SCOPED_TRACE(cat(row->name, ' ', testing::PrintToString(convolution.p), ' ',
                       testing::PrintToString(test)));
      convolution.run(*row, i == 60 ? 8 : i % 5 == 0 ? 2 + i % 2 : 1);
      convolution.expect_right();
      convolution.end.expect_padding_untouched();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// The transforms reach their bounds, sums of products wrap on the way, and the sums themselves are
// as large as they may be.
TEST(QmatmulWinograd, LongSumsOfExtremes) {
  for (const QmatmulRow* row : winograd_rows()) {
    const int64_t bound = qwinograd::bound_of(winograd_form(row->unit));
    for (const int8_t weight : {int8_t{-128}, int8_t{127}}) {
      Picture p;
      p.channels = bound / (9 * 255 * std::abs(int{weight}));
      for (WindowSteps* axis : {&p.y, &p.x}) axis->in = axis->out = 9, axis->kernel = 3;
      p.y.begin = p.x.begin = 1;
      p.set_steps();
      Convolution convolution(p, {.n = 3});
      for (int64_t i = 0; i < convolution.x.size(); ++i) convolution.x[i] = 255;
      for (int64_t i = 0; i < convolution.w.size(); ++i) convolution.w[i] = weight;
      for (int64_t j = 0; j < 3; ++j) convolution.end.offset[j] = 0;
      const int64_t k = convolution.windows.k();
      ASSERT_LE(qwinograd::most_of(3, k, convolution.w.data(), 3, 1), bound);
      convolution.run(*row, 1);
      convolution.expect_right();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(QmatmulWinograd, SumsMustKeepToTheBound) {
  constexpr int64_t kCount = 2000;
  std::vector<int8_t> w(kCount, 127);
  EXPECT_EQ(qwinograd::most_of(1, kCount, w.data(), 1, 1), 127 * 255 * kCount);
  for (size_t i = 0; i < w.size(); i += 2) w[i] = -128;
  EXPECT_EQ(qwinograd::most_of(1, kCount, w.data(), 1, 1), 128 * 255 * kCount / 2);
  for (const QmatmulRow* row : winograd_rows()) {
    const int64_t bound = qwinograd::bound_of(winograd_form(row->unit));
    EXPECT_EQ(why_not(*row, {.winograd = {true, bound, 1, 1}}, this_device()), "");
    EXPECT_EQ(why_not(*row, {.winograd = {true, bound + 1, 1, 1}}, this_device()),
              cat("its sums could leave +-", bound));
    // The same of a file: one column of the greatest weights.
    const int64_t most = bound / (9 * 255 * 127);
    for (const int64_t channels : {most, most + 1}) {
      std::vector<int8_t> b(static_cast<size_t>(9 * channels), 127);
      std::vector<int8_t> packed(static_cast<size_t>(packed_bytes(*row, 1, std::ssize(b))));
      pack_b(*row, 1, std::ssize(b), b.data(), 1, 1, packed.data());
      EXPECT_EQ(proofs_hold(*row, 1, std::ssize(b), packed.data()), channels == most);
    }
  }
}

TEST(QmatmulWinograd, ProofsOfAFileAreChecked) {
  constexpr int64_t kN = 20, kK = 9 * 5;
  for (const QmatmulRow* row : winograd_rows()) {
    Problem problem({.n = kN, .k = kK});
    const auto to = problem.packed(*row);
    EXPECT_TRUE(proofs_hold(*row, kN, kK, to->data()));
    EXPECT_FALSE(proofs_hold(*row, kN, kK - 1, to->data())) << "no taps of 3 x 3";
    std::mt19937 random(3);
    for (int i = 0; i < 300; ++i) {  // any other bytes stand for no weights, padding included
      int8_t& byte = (*to)[static_cast<int64_t>(random() % static_cast<uint64_t>(to->size()))];
      const int8_t before = byte;
      byte = static_cast<int8_t>(byte ^ (1 << random() % 8));
      EXPECT_FALSE(proofs_hold(*row, kN, kK, to->data()));
      byte = before;
    }
  }
}

// Any k that weights of windows can have.
int64_t whole_k(const QmatmulRow& row, int64_t k) {
  return is_winograd(row.unit) ? round_up(k, 9) : k;
}

TEST(QmatmulPacking, UnpackIsTheInverse) {
  for (const QmatmulRow& row : qmatmul_rows()) {
    for (const auto& [n, most] :
         {std::pair<int64_t, int64_t>{1, 1}, {50, 13}, {96, 8}, {101, 66}}) {
      const int64_t k = whole_k(row, most);
      for (const bool transposed : {false, true}) {
        Problem problem({.n = n, .k = k, .transposed = transposed});
        const auto to = problem.packed(row);
        Guarded<int8_t> back(n * k);
        unpack_b(row, n, k, to->data(), back.data(), problem.row_stride(), problem.column_stride());
        for (int64_t i = 0; i < n * k; ++i) ASSERT_EQ(back[i], problem.b[i]) << row.name;
      }
    }
  }
}

TEST(QmatmulPacking, ProofsOfAFileAreChecked) {
  for (const QmatmulRow& row : qmatmul_rows()) {
    if (is_winograd(row.unit)) continue;
    Problem problem({.n = 40, .k = 12, .values = Values::small});
    const auto to = problem.packed(row);
    EXPECT_TRUE(proofs_hold(row, 40, 12, to->data())) << row.name;
    (*to)[0] = (*to)[1] = 127;
    EXPECT_EQ(proofs_hold(row, 40, 12, to->data()), row.unit != QmatmulUnit::pairs) << row.name;
  }
}

// Corrections, which do not depend on the number of rows, are for many.
TEST(QmatmulRows, FewRowsAreWidened) {
  const QmatmulRow& pairs = qmatmul_row("qmatmul_u8s8s32_4x16x4_avx2");
  const QmatmulRow& widened = qmatmul_row("qmatmul_u8s8s32_6x16x2_avx2");
  for (const int64_t m : {1, 4, 8, 32, 128}) {
    const QmatmulProblem problem{m, 768, 768};
    EXPECT_EQ(prior_cycles(widened, problem) < prior_cycles(pairs, problem), m <= 8) << m;
  }
}

TEST(QmatmulRows, Reasons) {
  Device none;
  EXPECT_EQ(why_not(qmatmul_rows().back(), {}, none), "");
  EXPECT_EQ(why_not(qmatmul_rows().front(), {}, none), "this machine has no amx_int8");
  const QmatmulRow& winograd = qmatmul_row("qmatmul_u8s8s32_1x16x2_portablewinograd4");
  EXPECT_EQ(why_not(winograd, {}, none), "it is no convolution of 3 x 3 with stride 1");
  EXPECT_EQ(why_not(winograd, {.winograd = {.on = true, .rows = 1, .columns = 1}}, none), "");
  EXPECT_EQ(why_not(winograd, {.winograd = {.on = true, .rows = 1}}, none),
            "the size of its pictures is not known");
  EXPECT_THROW(qmatmul_row("qmatmul_of_dreams"), UsageError);
}

}  // namespace
}  // namespace planck
