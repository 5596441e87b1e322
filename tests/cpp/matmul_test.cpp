// Every row of the products against a double sum, between guard pages; bits equal between rows,
// cuts, threads and neighbours.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "base/team.h"
#include "base/vector_units.h"
#include "guarded.h"
#include "kernels/eltwise/rows.h"
#include "kernels/matmul/rows.h"

namespace planck {
namespace {

struct Case {
  int64_t m, n, k;
  bool bias = false, residual = false, relu = false, packed = true, transposed = false;
  MatmulCut cut = {};
  int64_t pad = 0;  // of every pitch
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "m=" << c.m << " n=" << c.n << " k=" << c.k << " bias=" << c.bias
             << " residual=" << c.residual << " relu=" << c.relu << " packed=" << c.packed
             << " transposed=" << c.transposed << " cut=" << c.cut.m_block << "," << c.cut.k_block
             << "," << c.cut.panels << " pad=" << c.pad;
}

// The last element of a row is the last of its buffer: a pitch is not padded behind the last row.
int64_t extent(int64_t rows, int64_t columns, int64_t pitch) {
  return rows == 0 ? 0 : (rows - 1) * pitch + columns;
}

struct Problem {
  explicit Problem(const Case& test, GuardedFloats::Guard guard = GuardedFloats::Guard::after)
      : c(test),
        a_pitch(c.k + c.pad),
        c_pitch(c.n + 2 * c.pad),
        r_pitch(c.n + 3 * c.pad),
        a(extent(c.m, c.k, a_pitch), guard),
        b(c.k * c.n, guard),
        bias(c.n, guard),
        residual(extent(c.m, c.n, r_pitch), guard),
        out(extent(c.m, c.n, c_pitch), guard) {
    a.randomize(1), b.randomize(2), bias.randomize(3), residual.randomize(4);
    a.read_only(), b.read_only(), bias.read_only(), residual.read_only();
    out.fill(kPoison);
  }
  static constexpr float kPoison = 12345;

  float b_at(int64_t i, int64_t j) const { return c.transposed ? b[j * c.k + i] : b[i * c.n + j]; }

  MatmulArgs args(const MatmulRow& row) {
    MatmulArgs args;
    args.m = c.m, args.n = c.n, args.k = c.k;
    args.a = a.data(), args.a_stride = a_pitch;
    args.b_packed = c.packed;
    args.b_row_stride = c.transposed ? 1 : c.n;
    args.b_column_stride = c.transposed ? c.k : 1;
    args.b = b.data();
    if (c.packed) {
      packed = std::make_unique<GuardedFloats>(packed_floats(row, c.n, c.k));
      pack_b(row, c.n, c.k, b.data(), args.b_row_stride, args.b_column_stride, packed->data());
      packed->read_only();
      args.b = packed->data();
    }
    args.c = out.data(), args.c_stride = c_pitch;
    if (c.bias) args.epilogue.bias = bias.data();
    if (c.residual) {
      args.epilogue.residual = residual.data();
      args.epilogue.residual_stride = r_pitch;
    }
    args.epilogue.relu = c.relu;
    args.cut = c.cut;
    args.next = {bias.data(), c.n};  // a hint only: any range, however short
    return args;
  }

  const std::vector<float>& run(const MatmulRow& row, int threads = 1) {
    MatmulArgs args = this->args(row);
    const Job job = plan_matmul(row, args);
    Team team(threads, scratch_bytes(args));
    team.run({&job, 1});
    result.clear();
    for (int64_t i = 0; i < c.m; ++i) {
      result.insert(result.end(), out.data() + i * c_pitch, out.data() + i * c_pitch + c.n);
    }
    return result;
  }

  void expect_right() const {
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) expect_right(i, j);
    }
  }
  void expect_right(int64_t i, int64_t j) const {
    double sum = 0, size = 0;
    for (int64_t k = 0; k < c.k; ++k) {
      const double product = static_cast<double>(a[i * a_pitch + k]) * b_at(k, j);
      sum += product;
      size += std::abs(product);
    }
    const auto add = [&](double x) {
      sum += x;
      size += std::abs(x);
    };
    if (c.bias) add(bias[j]);
    if (c.residual) add(residual[i * r_pitch + j]);
    if (c.relu) sum = std::max(sum, 0.0);
    const double bound = static_cast<double>(c.k + 2) * 0x1p-24 * size * 1.01;
    ASSERT_NEAR(out[i * c_pitch + j], sum, bound) << "row " << i << " column " << j;
  }
  void expect_padding_untouched() const {
    for (int64_t i = 0; i + 1 < c.m; ++i) {
      for (int64_t j = c.n; j < c_pitch; ++j) ASSERT_EQ(out[i * c_pitch + j], kPoison);
    }
  }

  Case c;
  int64_t a_pitch, c_pitch, r_pitch;
  GuardedFloats a, b, bias, residual, out;
  std::unique_ptr<GuardedFloats> packed;
  std::vector<float> result;
};

std::vector<Case> cases_of(const MatmulRow& row) {
  std::vector<Case> cases;
  const int64_t tm = row.tile_m, tn = row.tile_n;
  for (int64_t m = 1; m <= 2 * tm + 1; ++m) cases.push_back({.m = m, .n = tn, .k = 9});
  for (int64_t n = 1; n <= 2 * tn + 1; ++n)
    cases.push_back({.m = tm, .n = n, .k = 5, .bias = true});
  for (int64_t m = 1; m <= tm; ++m) {
    cases.push_back({.m = m, .n = 13 * tn + 5, .k = 21, .bias = true, .residual = true, .pad = 3});
  }
  for (int64_t k = 0; k <= 10; ++k) {
    cases.push_back({.m = 7, .n = tn + 3, .k = k, .bias = true, .residual = true, .relu = true});
  }
  for (int flags = 0; flags < 32; ++flags) {
    cases.push_back({.m = 2 * tm + 3,
                     .n = 2 * tn + 7,
                     .k = 34,
                     .bias = (flags & 1) != 0,
                     .residual = (flags & 2) != 0,
                     .relu = (flags & 4) != 0,
                     .packed = (flags & 8) != 0,
                     .transposed = (flags & 16) != 0,
                     .pad = 1});
  }
  cases.push_back(
      {.m = 128, .n = 100, .k = 300, .bias = true, .residual = true, .cut = {50, 64, 2}});
  cases.push_back({.m = 33, .n = 50, .k = 130, .relu = true, .packed = false, .cut = {8, 32, 1}});
  // Cut by rows alone, with and without a residual on its way.
  cases.push_back({.m = 1153, .n = 2 * tn + 5, .k = 19, .bias = true});
  cases.push_back({.m = 1200, .n = tn, .k = 40, .residual = true, .relu = true});
  // Rows of A in the same sets of L1.
  cases.push_back({.m = 53, .n = tn + 5, .k = 1024, .bias = true, .residual = true});
  cases.push_back({.m = 0, .n = 4, .k = 4});
  cases.push_back({.m = 4, .n = 0, .k = 4});
  return cases;
}

void check_row(const MatmulRow& row) {
  if (!this_device().has(row.isa)) GTEST_SKIP() << "this machine has no " << row.isa;
  for (const Case& c : cases_of(row)) {
    SCOPED_TRACE(testing::PrintToString(c));
    Problem problem(c);
    problem.run(row, 1 + static_cast<int>(c.m % 3));
    problem.expect_right();
    problem.expect_padding_untouched();
    if (testing::Test::HasFatalFailure()) return;
    Problem before(c, GuardedFloats::Guard::before);
    before.run(row);
    EXPECT_EQ(before.result, problem.result) << "another alignment";
  }
}

#define PLANCK_MATMUL(name, ...) \
  TEST(Matmul, name) { check_row(matmul_row(#name)); }
#include "kernels/matmul/kernels.inc"
#undef PLANCK_MATMUL

std::vector<const MatmulRow*> rows_here() {
  std::vector<const MatmulRow*> rows;
  for (const MatmulRow& row : matmul_rows()) {
    if (this_device().has(row.isa)) rows.push_back(&row);
  }
  return rows;
}

TEST(MatmulBits, EqualBetweenRows) {
  for (const int64_t m : {1, 2, 3, 5, 7, 11, 14, 64}) {
    const Case c{.m = m, .n = 101, .k = 257, .bias = true, .residual = true};
    Problem first(c);
    const std::vector<float> expected = first.run(*rows_here().front());
    for (const MatmulRow* row : rows_here()) {
      Problem problem(c);
      EXPECT_EQ(problem.run(*row), expected) << row->name << " m=" << m;
    }
  }
}

TEST(MatmulBits, EqualBetweenCutsAndThreads) {
  for (const MatmulRow* row : rows_here()) {
    Case c{.m = 61, .n = 130, .k = 190, .bias = true};
    const std::vector<float> expected = Problem(c).run(*row);
    for (const MatmulCut cut : {MatmulCut{1, 0, 1}, {7, 16, 2}, {61, 64, 3}, {20, 1000, 9}}) {
      for (const int threads : {1, 2, 3, 8}) {
        c.cut = cut;
        EXPECT_EQ(Problem(c).run(*row, threads), expected) << row->name << " " << c;
      }
    }
  }
}

// More than the caches hold, as rows or as a picture, at a line and elsewhere: written past them,
// and in the ordinary way.
TEST(MatmulBits, EqualWhereverLargeResultsBegin) {
  constexpr int64_t kMost = 64 << 20;
  const int64_t l3 = this_device().l3_bytes, n = 96, k = 8, pad = 32;
  if (l3 > kMost) GTEST_SKIP() << "a result of " << l3 << " bytes takes long";
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(l3) / (n * 4))) + 1;
  const int64_t m = side * side;
  MatmulWindows windows;
  windows.y = {.in = side, .out = side, .step = side * k};
  windows.x = {.in = side, .out = side, .step = k};
  windows.channels = k, windows.image_step = m * k;
  GuardedFloats a(m * k), b(n * k), bias(n);
  a.randomize(1), b.randomize(2), bias.randomize(3);
  std::vector<float> out((m * n) + pad), first;
  const auto beyond = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out.data()) % 64 / 4);
  const int64_t line = (16 - beyond) % 16;
  for (const MatmulRow* row : rows_here()) {
    std::vector<float> packed(packed_floats(*row, n, k));
    pack_b(*row, n, k, b.data(), n, 1, packed.data());
    for (const int64_t begin : {line, line + 1, line + 16}) {
      MatmulArgs args;
      args.m = m, args.n = n, args.k = k, args.a = a.data(), args.a_stride = k;
      if (begin > line + 1) args.windows = &windows;
      args.b = packed.data(), args.c = out.data() + begin, args.c_stride = n;
      args.epilogue.bias = bias.data();
      const Job job = plan_matmul(*row, args);
      EXPECT_EQ(args.plan.streaming.rows > 0, row->isa != Isa::portable && row->tile_n % 16 == 0);
      EXPECT_EQ(args.plan.bands > 0, args.windows != nullptr);
      std::ranges::fill(out, -1.0F);
      Team(2, scratch_bytes(args)).run({&job, 1});
      if (first.empty()) first.assign(out.begin() + begin, out.begin() + begin + m * n);
      EXPECT_TRUE(std::equal(first.begin(), first.end(), out.begin() + begin)) << row->name;
      EXPECT_EQ(out[begin + m * n], -1.0F) << row->name;
    }
  }
  for (int64_t i = 0; i < m; i += 997) {
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t p = 0; p < k; ++p) sum = std::fmaf(a[i * k + p], b[p * n + j], sum);
      ASSERT_EQ(first[i * n + j], sum + bias[j]) << "row " << i;
    }
  }
}

// A row of C does not depend on the rows around it.
TEST(MatmulBits, RowAloneEqualsRowInBlock) {
  for (const MatmulRow* row : rows_here()) {
    Problem whole({.m = 29, .n = 70, .k = 99, .bias = true});
    whole.run(*row);
    for (int64_t i = 0; i < 29; i += 4) {
      MatmulArgs args = whole.args(*row);
      std::vector<float> alone(70);
      args.m = 1;
      args.a += i * args.a_stride;
      args.c = alone.data();
      const Job job = plan_matmul(*row, args);
      Team team(1, scratch_bytes(args));
      team.run({&job, 1});
      const std::vector<float> expected(whole.result.begin() + i * 70,
                                        whole.result.begin() + (i + 1) * 70);
      EXPECT_EQ(alone, expected) << row->name << " row " << i;
    }
  }
}

TEST(MatmulBits, InfinityAndNanStayInTheirRowAndColumn) {
  for (const MatmulRow* row : rows_here()) {
    const int64_t n = 20, k = 12, m = 8;
    std::vector<float> a(m * k, 1), b(k * n, 1), out(m * n), packed(packed_floats(*row, n, k));
    a[3 * k + 5] = std::numeric_limits<float>::infinity();
    b[7 * n + 19] = std::numeric_limits<float>::quiet_NaN();
    pack_b(*row, n, k, b.data(), n, 1, packed.data());
    MatmulArgs args;
    args.m = m, args.n = n, args.k = k, args.a = a.data(), args.a_stride = k;
    args.b = packed.data(), args.c = out.data(), args.c_stride = n;
    args.epilogue.relu = true;
    const Job job = plan_matmul(*row, args);
    Team(1).run({&job, 1});
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const float x = out[i * n + j];
        if (j == 19) {
          EXPECT_TRUE(std::isnan(x));  // relu keeps NaN
        } else {
          EXPECT_EQ(x, i == 3 ? std::numeric_limits<float>::infinity() : 12.0F);
        }
      }
    }
  }
}

// [2, 1, m, k] x [1, 3, k, n]: both operands repeat along one axis.
TEST(MatmulBatch, Broadcasts) {
  const int64_t m = 9, n = 21, k = 17;
  for (const MatmulRow* row : rows_here()) {
    GuardedFloats a(2 * m * k), b(3 * k * n), out(6 * m * n), bias(n);
    a.randomize(1), b.randomize(2), bias.randomize(3);
    MatmulArgs args;
    args.m = m, args.n = n, args.k = k, args.a = a.data(), args.a_stride = k;
    args.b_packed = false, args.b = b.data(), args.b_row_stride = n;
    args.c = out.data(), args.c_stride = n;
    args.epilogue.bias = bias.data();
    args.batch_rank = 2;
    args.batch[0] = {.extent = 2, .a = m * k, .b = 0, .c = 3 * m * n};
    args.batch[1] = {.extent = 3, .a = 0, .b = k * n, .c = m * n};
    const Job job = plan_matmul(*row, args);
    Team team(2, scratch_bytes(args));
    team.run({&job, 1});
    for (int64_t item = 0; item < 6; ++item) {
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          float sum = 0;
          for (int64_t p = 0; p < k; ++p) {
            sum = std::fmaf(a[(item / 3 * m + i) * k + p], b[(item % 3 * k + p) * n + j], sum);
          }
          ASSERT_EQ(out[(item * m + i) * n + j], sum + bias[j]) << row->name;
        }
      }
    }
  }
}

void check_operands_of_every_kind(int64_t m, int64_t k) {
  const int64_t n = 45;
  TileProgram program;  // relu(product * scale[column] + shift[row] * full) - one
  program.operands = {Broadcast::none, Broadcast::per_column, Broadcast::per_row, Broadcast::none,
                      Broadcast::scalar};
  const int16_t scaled = program.apply(TileOp::mul, program.operand(0), program.operand(1));
  const int16_t shift = program.apply(TileOp::mul, program.operand(2), program.operand(3));
  const int16_t sum = program.apply(TileOp::add, scaled, shift);
  program.apply(TileOp::sub, program.apply(TileOp::relu, sum), program.operand(4));
  const EltProgram compiled = compile(program);
  GuardedFloats scale(n), shifts(m), full(2 * m * n), one(1);
  scale.randomize(5), shifts.randomize(6), full.randomize(7), one.fill(1);
  for (const MatmulRow* row : rows_here()) {
    Problem plain({.m = m, .n = n, .k = k}), problem({.m = m, .n = n, .k = k});
    plain.run(*row);
    GuardedFloats out(2 * m * n);
    MatmulArgs args = problem.args(*row);
    args.c = out.data(), args.c_stride = n;
    args.cut = {8, 0, 1};
    args.epilogue.program = &compiled;
    args.epilogue.operands[1] = {scale.data(), 0, 1};
    args.epilogue.operands[2] = {shifts.data(), 1, 0};
    args.epilogue.operands[3] = {full.data(), n, 1};
    args.epilogue.operands[4] = {one.data(), 0, 0};
    args.batch_rank = 1;
    args.batch[0] = {.extent = 2, .c = m * n, .operands = {0, 0, 0, m * n}};
    const Job job = plan_matmul(*row, args);
    Team team(2, scratch_bytes(args));
    team.run({&job, 1});
    for (int64_t e = 0; e < 2 * m * n; ++e) {
      const int64_t i = e / n % m, j = e % n;
      const float x = plain.result[i * n + j] * scale[j] + shifts[i] * full[e];
      ASSERT_EQ(out[e], std::max(x, 0.0F) - 1) << row->name << " element " << e;
    }
  }
}

TEST(MatmulEpilogue, ProgramReadsOperandsOfEveryKind) {
  check_operands_of_every_kind(31, 20);
  check_operands_of_every_kind(53, 1024);  // lower tiles, as rows lie in the same sets of L1
}

TileProgram to_bytes() {
  TileProgram p;
  p.operands = {Broadcast::none};
  const int16_t x = p.apply(TileOp::relu, p.operand(0));
  const int16_t scale = p.constant(0.05F);
  p.apply(TileOp::quantize_s8, x, scale, p.constant(-100));
  return p;
}

// Bytes behind a product are those of the program over the whole product.
TEST(MatmulEpilogue, ProgramEndsInBytes) {
  const EltProgram program = compile(to_bytes());
  for (const MatmulRow* row : rows_here()) {
    SCOPED_TRACE(row->name);
    for (const Case& c : {Case{.m = 33, .n = 45, .k = 70, .bias = true, .cut = {8, 16, 1}},
                          Case{.m = 1, .n = 200, .k = 9, .residual = true},
                          Case{.m = 300, .n = 70, .k = 40, .packed = false}}) {
      Problem problem(c);
      const std::vector<float> whole = problem.run(*row);
      GuardedBytes want(c.m * c.n), got(c.m * (c.n + 3) - 3);
      const EltOperand operand{whole.data(), c.n, 1};
      best_row(eltwise_rows()).strip(program, {&operand, want.data(), c.n, c.m, c.n, EltType::s8});
      MatmulArgs args = problem.args(*row);
      args.c = nullptr;
      args.epilogue.program = &program;
      args.epilogue.bytes = got.data(), args.epilogue.bytes_stride = c.n + 3;
      args.epilogue.bytes_type = EltType::s8;
      const Job job = plan_matmul(*row, args);
      Team team(2, scratch_bytes(args));
      team.run({&job, 1});
      for (int64_t e = 0; e < c.m * c.n; ++e) {
        ASSERT_EQ(got[e / c.n * (c.n + 3) + e % c.n], want[e]) << "element " << e;
      }
    }
  }
}

// The kernels that end in a GELU give the bits of the product followed by the program.
TEST(MatmulEpilogue, GeluInTheKernelEqualsTheProgram) {
  TileProgram program;
  program.operands = {Broadcast::none};
  program.apply(TileOp::gelu_erf, program.operand(0));
  const EltProgram compiled = compile(program);
  for (const MatmulRow& row : matmul_rows()) {
    if (!this_device().has(row.isa)) continue;
    SCOPED_TRACE(row.name);
    const Case c{.m = 2 * row.tile_m + 1,
                 .n = 3 * row.tile_n + 5,
                 .k = 40,
                 .bias = true,
                 .cut = {.k_block = 16},
                 .pad = 3};
    Problem problem(c);
    std::vector<float> want = problem.run(row);
    const EltOperand operand{want.data(), c.n, 1};
    best_row(eltwise_rows()).strip(compiled, {&operand, want.data(), c.n, c.m, c.n});
    MatmulArgs args = problem.args(row);
    args.epilogue.program = &compiled;
    const Job job = plan_matmul(row, args);
    Team team(1, scratch_bytes(args));
    team.run({&job, 1});
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        ASSERT_EQ(problem.out[i * problem.c_pitch + j], want[i * c.n + j]) << i << ", " << j;
      }
    }
    problem.expect_padding_untouched();
  }
}

TEST(MatmulPacking, UnpackIsTheInverse) {
  for (const MatmulRow& row : convolution_rows()) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {50, 13}, {96, 8}, {101, 6}}) {
      for (const bool transposed : {false, true}) {
        const int64_t rs = transposed ? 1 : n, cs = transposed ? k : 1;
        GuardedFloats b(n * k), packed(packed_floats(row, n, k)), back(n * k);
        b.randomize(9);
        packed.fill(7);
        pack_b(row, n, k, b.data(), rs, cs, packed.data());
        unpack_b(row, n, k, packed.data(), back.data(), rs, cs);
        for (int64_t i = 0; i < n * k; ++i) ASSERT_EQ(back[i], b[i]);
        double all = 0, inside = 0;  // so the padding is zero
        for (const float x : packed.span()) all += std::abs(x);
        for (const float x : b.span()) inside += (row.pairs() ? 2.0 : 1.0) * std::abs(x);
        EXPECT_NEAR(all, inside, 1e-9 * inside);
      }
    }
  }
}

// Rows of pairs are chosen where 8 columns more would fill a register for nothing, but not where
// 512 bits are as slow as two halves; they know what they cannot do.
TEST(MatmulRows, PairsAreForNarrowConvolutions) {
  const MatmulRow& pairs = matmul_row("matmul_f32f32f32_16x24x1_avx512");
  const MatmulRow& narrow = matmul_row("matmul_f32f32f32_4x24x1_avx2");
  MatmulProblem problem{.m = 128, .n = 24, .k = 864};
  Device wide;
  wide.best = Isa::avx512;
  EXPECT_NE(why_not(pairs, problem, wide), "");
  const WindowSteps axis{.kernel = 3, .begin = 1};
  problem.windows = MatmulWindows{axis, axis, 96, 0};
  EXPECT_EQ(why_not(pairs, problem, wide), "");
  EXPECT_EQ(prior_cycles(pairs, problem) < prior_cycles(narrow, problem), !halves_512());
  EXPECT_LT(prior_cycles(pairs, problem),
            prior_cycles(matmul_row("matmul_f32f32f32_12x32x1_avx512"), problem));
  const MatmulWindows once[] = {{{.kernel = 3, .stride = 4}, axis, 96, 0},
                                {axis, {.kernel = 3, .dilation = 2}, 96, 0},
                                {axis, {.kernel = 3, .begin = 3}, 96, 0},
                                {axis, {.kernel = 3, .begin = -1}, 96, 0},
                                {{}, axis, 96, 0}};
  for (const MatmulWindows& windows : once) {
    problem.windows = windows;
    EXPECT_NE(why_not(pairs, problem, wide), "");
  }
  GuardedFloats x(64);
  MatmulArgs args;
  args.m = args.n = args.k = 8, args.a_stride = args.c_stride = 8;
  args.a = args.b = x.data(), args.c = x.data();
  EXPECT_THROW(plan_matmul(pairs, args), InternalError);
}

// Colours in planes would have to be copied for all rows but pairs.
TEST(MatmulRows, PairsReadPlanes) {
  const MatmulRow& pairs = matmul_row("matmul_f32f32f32_24x16x1_avx512");
  const MatmulRow& plain = matmul_row("matmul_f32f32f32_12x16x1_avx512");
  const WindowSteps axis{.kernel = 3, .stride = 2, .begin = 1};
  MatmulProblem problem{.m = 128, .n = 16, .k = 27, .windows = MatmulWindows{axis, axis, 3, 0}};
  const double dense = prior_cycles(plain, problem), copied = prior_cycles(pairs, problem);
  problem.planes = true;
  EXPECT_GT(prior_cycles(plain, problem), dense);
  EXPECT_EQ(prior_cycles(pairs, problem), copied);
  EXPECT_LT(prior_cycles(pairs, problem), prior_cycles(plain, problem));
}

// One vector of columns: for more than half a vector, where 512 bits are faster than 256.
TEST(MatmulRows, OneVectorIsForUpToSixteenColumns) {
  const auto cost = [](std::string_view tile, int64_t n) {
    const MatmulProblem problem{.m = 128, .n = n, .k = 48};
    return prior_cycles(matmul_row("matmul_f32f32f32_" + std::string(tile)), problem);
  };
  for (const int64_t n : {9, 12, 16}) {
    EXPECT_LT(cost("12x16x1_avx512", n), cost("12x32x1_avx512", n));
    EXPECT_LT(cost("12x16x1_avx512", n), cost("8x48x1_avx512", n));
    EXPECT_EQ(cost("12x16x1_avx512", n) < cost("6x16x1_avx2", n), !halves_512());
  }
  EXPECT_LT(cost("14x8x1_avx512", 8), cost("12x16x1_avx512", 8));
  for (const int64_t n : {17, 32, 80}) {
    EXPECT_LT(cost("12x32x1_avx512", n), cost("12x16x1_avx512", n));
  }
}

// Columns in groups that lie apart are those of a plain product, and so is what a program makes
// of them.
TEST(MatmulGroups, LieWhereTheyAreTold) {
  TileProgram text;
  text.operands = {Broadcast::none};
  text.apply(TileOp::sigmoid, text.operand(0));
  const EltProgram program = compile(text);
  for (const MatmulRow& row : matmul_rows()) {
    if (!this_device().has(row.isa) || row.lanes != Lanes::rows) continue;
    for (const auto& [n, group] : {std::pair<int64_t, int64_t>{4, 2}, {4, 1}, {6, 3}, {8, 4}}) {
      for (const EltProgram* then : {static_cast<const EltProgram*>(nullptr), &program}) {
        Problem plain({.m = 1300, .n = n, .k = 23, .bias = true});
        SCOPED_TRACE(testing::Message() << row.name << " n=" << n << " of " << group);
        const auto run = [&](MatmulArgs& args) {
          args.epilogue.program = then;
          const Job job = plan_matmul(row, args);
          Team team(2, scratch_bytes(args));
          team.run({&job, 1});
        };
        MatmulArgs args = plain.args(row);
        run(args);
        GuardedFloats apart(plain.out.size());
        args = plain.args(row);
        args.c = apart.data(), args.c_stride = group;
        args.c_group = group, args.c_group_step = group * args.m;
        run(args);
        for (int64_t i = 0; i < args.m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            const int64_t place = j / group * args.c_group_step + i * group + j % group;
            ASSERT_EQ(apart[place], plain.out[i * n + j]) << i << ", " << j;
          }
        }
      }
    }
  }
}

// What kernels with rows in lanes make of a sigmoid is what a pass over C would.
TEST(MatmulSigmoid, IsThatOfThePassOverC) {
  TileProgram text;
  text.operands = {Broadcast::none};
  text.apply(TileOp::sigmoid, text.operand(0));
  const EltProgram program = compile(text);
  for (const MatmulRow& row : matmul_rows()) {
    if (!this_device().has(row.isa) || row.lanes != Lanes::rows) continue;
    for (int64_t n = 1; n <= row.tile_n; ++n) {
      SCOPED_TRACE(testing::Message() << row.name << " n=" << n);
      const Case c{.m = 5 * row.tile_m + 3, .n = n, .k = 30, .bias = true};
      Problem fused(c), apart(c);
      const float edges[] = {-1, 1e9F, -100, 90, NAN, -INFINITY, INFINITY, -1e9F};
      MatmulArgs args = apart.args(row);
      args.epilogue.bias = edges;
      const Job plain = plan_matmul(row, args);
      Team team(2, scratch_bytes(args));
      team.run({&plain, 1});
      const EltOperand operand{apart.out.data(), n, 1};
      eltwise_strip(row.isa)(program, {&operand, apart.out.data(), n, c.m, n});
      args = fused.args(row);
      args.epilogue.bias = edges;
      args.epilogue.program = &program;
      const Job job = plan_matmul(row, args);
      EXPECT_EQ(args.plan.strip, nullptr);
      team.run({&job, 1});
      for (int64_t i = 0; i < c.m * n; ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(fused.out[i]), std::bit_cast<uint32_t>(apart.out[i]));
      }
    }
  }
}

TEST(MatmulRows, FewColumnsAreSummedByRows) {
  const MatmulRow& narrow = matmul_row("matmul_f32f32f32_8x8x1_avx2");
  const MatmulRow& wide = matmul_row("matmul_f32f32f32_6x16x1_avx2");
  const MatmulProblem few{.m = 1024, .n = 4, .k = 24};
  EXPECT_LT(prior_cycles(narrow, few), prior_cycles(wide, few));
  const Device& here = this_device();
  if (!here.has(Isa::avx2)) GTEST_SKIP();
  EXPECT_EQ(why_not(narrow, few, here), "");
  EXPECT_NE(why_not(narrow, {.n = 9, .k = 24}, here), "");
  EXPECT_NE(why_not(narrow, {.n = 4, .k = 4096}, here), "");
  EXPECT_NE(why_not(narrow, {.n = 4, .k = 24, .b_is_constant = false}, here), "");
}

TEST(MatmulRows, ReasonsAndPriors) {
  const MatmulRow& portable = matmul_rows().back();
  Device none;
  EXPECT_EQ(why_not(portable, {}, none), "");
  EXPECT_EQ(why_not(matmul_row("matmul_f32f32f32_6x16x1_avx2"), {}, none),
            "this machine has no avx2");
  EXPECT_NE(why_not(portable, {.b = DType::s8}, none), "");
  const MatmulProblem bert{.m = 128, .n = 768, .k = 768};
  EXPECT_LT(prior_cycles(matmul_row("matmul_f32f32f32_6x16x1_avx2"), bert),
            prior_cycles(portable, bert));
  EXPECT_THROW(matmul_row("matmul_of_dreams"), UsageError);
}

}  // namespace
}  // namespace planck
