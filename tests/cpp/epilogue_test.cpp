// Kernels that end in a program: their bits are those of the product followed by the interpreted
// program, for every row, height, panel, mask and kind of operand; between guard pages.
#include "kernels/jit/epilogue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/team.h"
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/matmul/rows.h"

namespace planck {
namespace {

constexpr int kFull = 1, kColumn = 2, kRow = 3, kScalar = 4;  // the operands of every program here

struct Named {
  std::string name;
  TileProgram program;
};

TileProgram with_operands() {
  TileProgram p;
  p.operands = {Broadcast::none, Broadcast::none, Broadcast::per_column, Broadcast::per_row,
                Broadcast::scalar};
  return p;
}

Named unary(TileOp op) {
  Named n{std::string(info(op).name), with_operands()};
  n.program.apply(op, n.program.operand(0));
  return n;
}

// An op with an operand on either side (with each kind of them, for one op), and with constants.
void add_binary(TileOp op, std::vector<Named>& all) {
  for (int16_t operand = kFull; operand <= kScalar; ++operand) {
    if (op != TileOp::sub && operand != static_cast<int>(op) % kScalar + 1) continue;
    for (const bool first : {false, true}) {
      Named n{cat(info(op).name, " operand ", operand, first ? " first" : ""), with_operands()};
      const int16_t x = n.program.operand(0), y = n.program.operand(operand);
      n.program.apply(op, first ? y : x, first ? x : y);
      all.push_back(n);
    }
  }
  for (const float c : {0.0F, -0.0F, 1.5F, kNotANumber}) {
    Named n{cat(info(op).name, " of ", c), with_operands()};
    const int16_t x = n.program.operand(0), y = n.program.constant(c);
    n.program.apply(op, n.program.apply(op, x, y), n.program.apply(op, y, x));
    all.push_back(n);
  }
}

// What stands behind convolutions: scales and shifts, clips, gates, sums.
std::vector<Named> chains() {
  std::vector<Named> all;
  const auto add = [&](const char* name) -> TileProgram& {
    all.push_back({name, with_operands()});
    return all.back().program;
  };
  {
    TileProgram& p = add("hard swish, scale, shift");
    const int16_t y = p.apply(TileOp::hard_swish, p.operand(0));
    const int16_t scaled = p.apply(TileOp::mul, y, p.operand(kColumn));
    p.apply(TileOp::add, scaled, p.operand(kScalar));
  }
  {
    TileProgram& p = add("clip");
    const int16_t low = p.apply(TileOp::max, p.operand(0), p.constant(0));
    p.apply(TileOp::min, low, p.constant(6));
  }
  {
    TileProgram& p = add("gate of a row, sum");
    const int16_t gate = p.apply(TileOp::sigmoid, p.operand(kRow));
    const int16_t gated = p.apply(TileOp::mul, p.operand(0), gate);
    p.apply(TileOp::relu, p.apply(TileOp::add, gated, p.operand(kFull)));
  }
  {
    TileProgram& p = add("difference, scale");
    p.apply(TileOp::mul, p.apply(TileOp::sub, p.operand(0), p.operand(kColumn)), p.operand(kRow));
  }
  {
    TileProgram& p = add("select");
    const int16_t less = p.apply(TileOp::less, p.operand(0), p.operand(kFull));
    p.apply(TileOp::select, less, p.operand(kRow), p.operand(kColumn));
  }
  {
    TileProgram& p = add("a copy of the product");
    p.operand(0);
  }
  {
    TileProgram& p = add("a copy of an operand");
    p.operand(kColumn);
  }
  {
    TileProgram& p = add("many live values");
    std::vector<int16_t> live;
    for (int16_t i = 0; i < 5; ++i) {
      live.push_back(p.apply(TileOp::mul, p.operand(0), p.operand(i % 4 + 1)));
    }
    int16_t sum = p.apply(TileOp::swish, p.operand(0));
    for (const int16_t value : live) sum = p.apply(TileOp::sub, value, sum);
  }
  return all;
}

std::vector<Named> programs() {
  std::vector<Named> all;
  for (const TileOp op : {TileOp::neg, TileOp::abs, TileOp::sqrt, TileOp::reciprocal, TileOp::exp,
                          TileOp::tanh, TileOp::sigmoid, TileOp::relu, TileOp::gelu_erf,
                          TileOp::gelu_tanh, TileOp::swish, TileOp::hard_swish}) {
    all.push_back(unary(op));
  }
  for (const TileOp op : {TileOp::add, TileOp::sub, TileOp::mul, TileOp::div, TileOp::min,
                          TileOp::max, TileOp::equal, TileOp::less, TileOp::less_equal}) {
    add_binary(op, all);
  }
  for (const TileOp second : {TileOp::relu, TileOp::gelu_erf, TileOp::gelu_tanh, TileOp::tanh}) {
    Named n{cat("add and ", info(second).name), with_operands()};
    const int16_t sum =
        n.program.apply(TileOp::add, n.program.operand(0), n.program.operand(kFull));
    n.program.apply(second, sum);
    all.push_back(n);
  }
  std::ranges::copy(chains(), std::back_inserter(all));
  return all;
}

// Numbers of every size and sign, zeros, infinities, NaN; their products too.
float number(int64_t i) {
  constexpr float kSpecial[] = {0.0F, -0.0F, kInfinity, -kInfinity, kNotANumber, 1.0F, -1.0F};
  if (i % 11 == 0) return kSpecial[i / 11 % std::size(kSpecial)];
  const float size =
      std::ldexp(1.0F + static_cast<float>(i * 37 % 101) / 101, static_cast<int>(i * 13 % 24) - 14);
  return i % 3 == 0 ? -size : size;
}
void fill(GuardedFloats& floats, int64_t from) {
  for (int64_t i = 0; i < floats.size(); ++i) floats[i] = number(from + i);
  floats.read_only();
}

struct Shape {
  int64_t m, n, k = 2;
  MatmulCut cut = {};
};

class Product {
 public:
  Product(const MatmulRow& row, const Shape& shape)
      : row_(row),
        s_(shape),
        pitch_(s_.n + 3),
        a_(kItems * s_.m * s_.k),
        packed_(packed_floats(row, s_.n, s_.k)),
        bias_(s_.n),
        full_(kItems * s_.m * s_.n),
        columns_(s_.n),
        rows_(s_.m),
        scalar_(1) {
    fill(a_, 1), fill(bias_, 5), fill(full_, 7), fill(columns_, 3), fill(rows_, 9);
    scalar_.fill(-0.75F);
    GuardedFloats b(s_.n * s_.k);
    fill(b, 2);
    pack_b(row, s_.n, s_.k, b.data(), s_.n, 1, packed_.data());
  }

  // Two items of the batch, between which all but the full operand repeats.
  std::vector<float> run(const EltProgram* program, bool generated) {
    GuardedFloats out(kItems * s_.m * pitch_ - 3);
    out.fill(12345);
    MatmulArgs args;
    args.m = s_.m, args.n = s_.n, args.k = s_.k;
    args.a = a_.data(), args.a_stride = s_.k;
    args.b = packed_.data(), args.c = out.data(), args.c_stride = pitch_;
    args.epilogue.bias = bias_.data();
    args.epilogue.program = program;
    std::ranges::copy(operands(), args.epilogue.operands);
    args.batch_rank = 1;
    args.batch[0] = {.extent = kItems, .a = s_.m * s_.k, .c = s_.m * pitch_};
    args.batch[0].operands[kFull] = s_.m * s_.n;
    args.cut = s_.cut;
    const Job job = plan_matmul(row_, args);
    if (program != nullptr) {
      const bool own = args.plan.gelu || args.plan.relu || args.plan.sigmoid;
      EXPECT_EQ(args.plan.epilogue || own, generated);
      EXPECT_EQ(args.plan.strip == nullptr, args.plan.epilogue || own);
    }
    Team team(1, scratch_bytes(args));
    team.run({&job, 1});
    for (int64_t i = 0; i + 1 < kItems * s_.m; ++i) {
      for (int64_t j = s_.n; j < pitch_; ++j) EXPECT_EQ(out[i * pitch_ + j], 12345);
    }
    std::vector<float> result;
    for (int64_t i = 0; i < kItems * s_.m; ++i) {
      result.insert(result.end(), out.data() + i * pitch_, out.data() + i * pitch_ + s_.n);
    }
    return result;
  }

  std::vector<float> interpreted(const EltProgram& program) {
    std::vector<float> c = run(nullptr, false);
    for (int64_t item = 0; item < kItems; ++item) {
      std::vector<EltOperand> all = operands();
      float* first = c.data() + item * s_.m * s_.n;
      all[0] = {first, s_.n, 1};
      all[kFull].data = full_.data() + item * s_.m * s_.n;
      eltwise_strip(row_.isa)(program, {all.data(), first, s_.n, s_.m, s_.n});
    }
    return c;
  }

 private:
  static constexpr int64_t kItems = 2;

  std::vector<EltOperand> operands() const {
    return {{nullptr, pitch_, 1},
            {full_.data(), s_.n, 1},
            {columns_.data(), 0, 1},
            {rows_.data(), 1, 0},
            {scalar_.data(), 0, 0}};
  }

  const MatmulRow& row_;
  Shape s_;
  int64_t pitch_;
  GuardedFloats a_, packed_, bias_, full_, columns_, rows_, scalar_;
};

void check(const MatmulRow& row, const Shape& shape, const Named& named, bool generated) {
  SCOPED_TRACE(cat(named.name, ", m=", shape.m, " n=", shape.n, " k=", shape.k));
  const EltProgram program = compile(named.program);
  Product product(row, shape);
  const std::vector<float> got = product.run(&program, generated);
  const std::vector<float> want = product.interpreted(program);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(same_bits(got[i], want[i]))
        << "element " << i << ": " << got[i] << ", not " << want[i];
  }
}

void check_row(const MatmulRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const bool generated = row.isa != Isa::portable && row.lanes != Lanes::rows;
  const int64_t tm = row.tile_m, tn = row.tile_n;
  // Whole tiles, masked ones, several panels at once (few rows), two heights in a block, K blocks.
  const Shape all_kinds{tm + 2, 2 * tn + 5, 20, {.m_block = tm + 1, .k_block = 8}};
  for (const Named& named : programs()) {
    // A lone relu is a flag of the portable kernel too, a lone sigmoid one of rows in lanes.
    const bool flag = named.name == "relu" || (row.lanes == Lanes::rows && named.name == "sigmoid");
    check(row, all_kinds, named, generated || flag);
    if (testing::Test::HasFatalFailure()) return;
  }
  const std::vector<Named> some = chains();
  for (const Named& named : some) check(row, {2, 13 * tn + 1}, named, generated);
  // A process keeps few thousand generated kernels: not every program at every height.
  for (int64_t m = 1; m <= 2 * tm + 1; ++m) check(row, {m, tn + 7}, some[0], generated);
  for (int64_t n = 1; n <= tn + 1; ++n) check(row, {tm, n}, some[2], generated);
}

// As of the vector functions (eltwise_test.cpp).
void check_far(const MatmulRow& row) {
  PLANCK_SKIP_WITHOUT(row.isa);
  const int64_t n = row.tile_n;
  for (const TileOp op : {TileOp::tanh, TileOp::sigmoid, TileOp::gelu_erf, TileOp::gelu_tanh,
                          TileOp::swish, TileOp::hard_swish}) {
    TileProgram text;
    text.operands = {Broadcast::none};
    text.apply(op, text.operand(0));
    const EltProgram program = compile(text);
    for (const float x : {-3.4e38F, -1e4F, -177.0F, -12.9F, -9.0F, 9.0F, 12.9F, 80.0F}) {
      std::vector<float> b(static_cast<size_t>(n), 1), c(b.size());
      std::vector<float> weights(static_cast<size_t>(packed_floats(row, n, 1)));
      pack_b(row, n, 1, b.data(), n, 1, weights.data());
      MatmulArgs args;
      args.m = 1, args.n = n, args.k = 1;
      args.a = &x, args.a_stride = 1;
      args.b = weights.data(), args.c = c.data(), args.c_stride = n;
      args.epilogue.program = &program;
      const Job job = plan_matmul(row, args);
      std::vector<std::byte> scratch(static_cast<size_t>(scratch_bytes(args)) + 64);
      void* aligned = scratch.data();
      size_t space = scratch.size();
      Worker worker;
      worker.scratch = static_cast<std::byte*>(std::align(64, 1, aligned, space));
      const Underflows underflows;  // a team would set the flags back
      for (int64_t tile = 0; tile < job.tiles; ++tile) job.run(job.args, tile, worker);
      EXPECT_FALSE(underflows.any()) << info(op).name << " at " << x;
    }
  }
}

#define PLANCK_MATMUL(name, ...)                         \
  TEST(Epilogue, name) { check_row(matmul_row(#name)); } \
  TEST(EpilogueFar, name) { check_far(matmul_row(#name)); }
#include "kernels/matmul/kernels.inc"
#undef PLANCK_MATMUL

TEST(Epilogue, WhatIsNotGeneratedIsInterpreted) {
  for (const MatmulRow& row : matmul_rows()) {
    if (!this_device().has(row.isa)) continue;
    for (const TileOp op : {TileOp::erf, TileOp::log, TileOp::sin, TileOp::floor}) {
      check(row, {row.tile_m + 1, row.tile_n + 3}, unary(op), false);
    }
    // More than a kernel's code holds.
    Named longest{"long", with_operands()};
    int16_t x = longest.program.operand(0);
    for (int i = 0; i < 8; ++i) x = longest.program.apply(TileOp::sigmoid, x);
    check(row, {row.tile_m + 1, row.tile_n + 3}, longest, false);
  }
}

TEST(Epilogue, OperandsThatAreNoFloatsAreInterpreted) {
  TileProgram program = with_operands();
  program.apply(TileOp::mul, program.operand(0), program.operand(kFull));
  std::vector<EltOperand> operands(5, EltOperand{nullptr, 4, 1});
  EXPECT_TRUE(jit::generated(compile(program), operands));
  for (const EltType type : {EltType::b8, EltType::u8, EltType::s8, EltType::s32}) {
    operands[kFull].type = type;
    EXPECT_FALSE(jit::generated(compile(program), operands)) << static_cast<int>(type);
  }
}

// The same text of a program gives the same code, so that kernels are shared.
TEST(Epilogue, EqualProgramsAreEqual) {
  const std::vector<EltOperand> full(5, EltOperand{nullptr, 4, 1});
  const auto of = [&](const Named& n) { return jit::generated(compile(n.program), full); };
  const std::vector<Named> all = chains();
  for (const Named& a : all) {
    for (const Named& b : all) EXPECT_EQ(of(a) == of(b), a.name == b.name) << a.name << b.name;
  }
}

}  // namespace
}  // namespace planck
