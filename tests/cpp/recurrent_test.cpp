// Recurrent layers: the gates' functions against double, cells of every instruction set against the
// portable ones bit for bit, and whole layers that must not depend on the row of products, on the
// order of tiles, or on which samples walk together.
#include "kernels/recurrent/recurrent.h"

#include <array>
#include <random>

#include "base/error.h"
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/recurrent/rows.h"

namespace planck {
namespace {

struct Cell {
  std::string_view name;
  int gates, more;
  RecurrentCellFn fn, portable;
};

#define PLANCK_RECURRENT_CELL(level, name, gates, more) \
  { #name, gates, more, recurrent_f32_16_##level##_##name, recurrent_f32_16_portable_##name }
#define PLANCK_RECURRENT_CELLS(level)                                                            \
  {                                                                                              \
    PLANCK_RECURRENT_CELL(level, rnn_tanh, 1, 0), PLANCK_RECURRENT_CELL(level, rnn_relu, 1, 0),  \
        PLANCK_RECURRENT_CELL(level, gru_gates, 2, 0), PLANCK_RECURRENT_CELL(level, gru, 1, 0),  \
        PLANCK_RECURRENT_CELL(level, gru_linear, 3, 1), PLANCK_RECURRENT_CELL(level, lstm, 4, 3) \
  }

std::vector<Cell> cells_of(Isa isa) {
  if (isa == Isa::avx512) return PLANCK_RECURRENT_CELLS(avx512);
  if (isa == Isa::avx2) return PLANCK_RECURRENT_CELLS(avx2);
  return PLANCK_RECURRENT_CELLS(portable);
}

// What a cell reads and writes, each array as long as it says.
struct Memory {
  Memory(const Cell& cell, int64_t units, uint32_t seed)
      : blocks((units + 15) / 16),
        x(16 * blocks * cell.gates),
        r(16 * blocks * cell.gates),
        more(16 * blocks * std::max(cell.more, 1)),
        h(units),
        c(units),
        h_out(16 * blocks),
        c_out(16 * blocks),
        y(units),
        last_h(units),
        last_c(units) {
    uint32_t next = seed;
    for (auto* v : {&x, &r, &more, &h, &c, &h_out, &c_out}) v->randomize(++next, 4);
    for (auto* v : {&y, &last_h, &last_c}) v->fill(7);
  }
  RecurrentCell cell(int64_t units, bool all, bool ended) {
    RecurrentCell out{.x = x.data(),
                      .r = nullptr,
                      .h = nullptr,
                      .c = nullptr,
                      .more = nullptr,
                      .h_out = h_out.data(),
                      .c_out = c_out.data(),
                      .y = nullptr,
                      .last_h = nullptr,
                      .last_c = nullptr,
                      .units = units,
                      .ended = ended};
    if (!all) return out;
    out.r = r.data(), out.more = more.data(), out.h = h.data(), out.c = c.data();
    out.y = y.data(), out.last_h = last_h.data(), out.last_c = last_c.data();
    return out;
  }
  int64_t blocks;
  GuardedFloats x, r, more, h, c, h_out, c_out, y, last_h, last_c;
};

void check_cells(Isa isa) {
  PLANCK_SKIP_WITHOUT(isa);
  for (const Cell& cell : cells_of(isa)) {
    for (const int64_t units : {1, 15, 16, 17, 40, 64}) {
      for (const int mode : {0, 1, 2, 3}) {
        SCOPED_TRACE(cat(cell.name, " of ", units, ", mode ", mode));
        Memory got(cell, units, 5), want(cell, units, 5);
        const bool all = mode % 2 != 0, ended = mode >= 2;
        cell.fn(got.cell(units, all, ended));
        cell.portable(want.cell(units, all, ended));
        expect_same_bits(got.h_out.data(), want.h_out.data(), got.h_out.size());
        expect_same_bits(got.c_out.data(), want.c_out.data(), got.c_out.size());
        expect_same_bits(got.y.data(), want.y.data(), units);
        expect_same_bits(got.last_h.data(), want.last_h.data(), units);
        expect_same_bits(got.last_c.data(), want.last_c.data(), units);
      }
    }
  }
}

#define PLANCK_RECURRENT(name, isa) \
  TEST(RecurrentCells, name) { check_cells(Isa::isa); }
#include "kernels/recurrent/kernels.inc"
#undef PLANCK_RECURRENT

// tanh as an RNN gives it, sigmoid as the update gate of a GRU.
void expect_exact(float x) {
  std::array<float, 16> in, h, c;
  in.fill(x);
  RecurrentCell cell{};
  cell.x = in.data(), cell.h_out = h.data(), cell.c_out = c.data(), cell.units = 16;
  recurrent_f32_16_portable_rnn_tanh(cell);
  EXPECT_LE(ulps(h[0], std::tanh(static_cast<double>(x))), 3) << x;
  std::array<float, 32> two;
  two.fill(x);
  cell.x = two.data();
  recurrent_f32_16_portable_gru_gates(cell);
  const double sigmoid = 1 / (1 + std::exp(-static_cast<double>(x)));
  if (x < -87) {
    EXPECT_LE(std::fabs(c[0]), 2e-38F) << x;  // flushed
  } else {
    EXPECT_LE(ulps(c[0], sigmoid), 3) << x;
  }
}

TEST(RecurrentCells, GatesAreExact) {
  for (float x = 1e-38F; x < 200; x *= 1.003F) expect_exact(x), expect_exact(-x);
  for (const float x : {0.0F, kInfinity, -kInfinity, kNotANumber, 3e38F, -3e38F}) expect_exact(x);
}

TEST(RecurrentCells, GatesDoNotUnderflow) {
  const Underflows underflows;
  for (const float x : {-1e30F, -300.0F, -88.0F, -86.0F, 86.0F, 1e30F}) {
    std::array<float, 32> in, h, c;
    in.fill(x);
    RecurrentCell cell{};
    cell.x = in.data(), cell.h_out = h.data(), cell.c_out = c.data(), cell.units = 16;
    recurrent_f32_16_portable_gru_gates(cell);
    recurrent_f32_16_portable_rnn_tanh(cell);
  }
  EXPECT_FALSE(underflows.any());
}

// --- whole layers -----------------------------------------------------------------------------

struct Problem {
  RecurrentKind kind;
  int64_t steps, batch, hidden, sides;
  bool lengths;
};

struct Results {
  std::vector<float> y, h, c;
};

std::vector<float> numbers(int64_t count, uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = uniform(random);
  return out;
}

void run_jobs(const std::vector<Job>& jobs, int64_t scratch_bytes) {
  GuardedFloats scratch((scratch_bytes + 3) / 4 + 16);
  Worker worker;
  void* aligned = scratch.data();
  auto space = static_cast<size_t>(scratch.size() * 4);
  worker.scratch =
      static_cast<std::byte*>(std::align(64, static_cast<size_t>(scratch_bytes), aligned, space));
  for (const Job& job : jobs) {
    for (int64_t tile = job.tiles; tile-- > 0;) job.run(job.args, tile, worker);
  }
}

// Samples [first, last) of the problem, [steps, batch, ..].
Results run_layer(const MatmulRow& row, const Problem& p, int64_t first, int64_t last) {
  const RecurrentSizes sizes(p.kind, p.hidden);
  const int64_t columns = p.sides * sizes.side_columns(), n = p.sides * sizes.side_weights();
  const auto x = numbers(p.steps * p.batch * columns, 1, 2);
  const auto matrix = numbers(p.hidden * n, 2, 1.5F / std::sqrt(static_cast<float>(p.hidden)));
  const auto more = numbers(p.sides * sizes.more_floats() + 1, 3, 1);
  const auto h = numbers(p.sides * p.batch * p.hidden, 4, 1);
  std::vector<float> packed(static_cast<size_t>(packed_floats(row, n, p.hidden)));
  pack_b(row, n, p.hidden, matrix.data(), n, 1, packed.data());
  std::vector<int32_t> lengths;
  for (int64_t i = 0; i < p.batch; ++i) {
    lengths.push_back(static_cast<int32_t>(7 * i % (p.steps + 1)));
  }
  const int64_t batch = last - first, side = p.batch * p.hidden;
  std::vector<float> states(
      static_cast<size_t>(sizes.form.states * p.sides * batch * sizes.pitch()), kNotANumber);
  const auto room = [&](int64_t steps) {
    return std::vector<float>(static_cast<size_t>(steps * p.sides * batch * p.hidden));
  };
  Results out{room(p.steps), room(1), room(1)};
  RecurrentArgs args;
  args.kind = p.kind, args.hidden = p.hidden, args.sides = p.sides;
  args.steps = p.steps, args.batch = batch;
  args.x = x.data() + first * columns, args.x_row = columns, args.x_step = p.batch * columns;
  args.w = packed.data();
  args.more = sizes.form.more > 0 ? more.data() : nullptr;
  args.h = {h.data() + first * p.hidden, side, p.hidden};
  if (p.kind == RecurrentKind::lstm) args.c = args.h;
  args.lengths = p.lengths ? lengths.data() + first : nullptr;
  const int64_t out_side = batch * p.hidden;
  args.y = {out.y.data(), out_side, p.hidden, p.sides * out_side};
  args.last_h = {out.h.data(), out_side, p.hidden, 0};
  if (p.kind == RecurrentKind::lstm) args.last_c = {out.c.data(), out_side, p.hidden, 0};
  args.states = states.data();
  const std::vector<Job> jobs = plan_recurrent(row, args);
  run_jobs(jobs, args.plan.scratch_bytes);
  return out;
}

const MatmulRow& portable_row() { return matmul_row("matmul_f32f32f32_1x16x1_portable"); }

void expect_same(const Results& a, const Results& b) {
  expect_same_bits(a.y, b.y, std::ssize(a.y));
  expect_same_bits(a.h, b.h, std::ssize(a.h));
  expect_same_bits(a.c, b.c, std::ssize(a.c));
}

constexpr RecurrentKind kKinds[] = {RecurrentKind::rnn_tanh, RecurrentKind::rnn_relu,
                                    RecurrentKind::gru, RecurrentKind::gru_linear,
                                    RecurrentKind::lstm};

// Small layers walk the sequence in one tile, large ones have jobs for each step.
TEST(RecurrentLayers, EveryRowHasTheSameBits) {
  for (const RecurrentKind kind : kKinds) {
    for (const Problem& p : {Problem{kind, 3, 3, 5, 2, true}, Problem{kind, 3, 17, 33, 1, false},
                             Problem{kind, 2, 2, 257, 2, false}}) {
      const Results want = run_layer(portable_row(), p, 0, p.batch);
      for (const MatmulRow& row : matmul_rows()) {
        if (!this_device().has(row.isa) || !takes_recurrent(row)) continue;
        SCOPED_TRACE(cat(row.name, " kind ", static_cast<int>(kind), " of ", p.hidden));
        expect_same(run_layer(row, p, 0, p.batch), want);
      }
    }
  }
}

TEST(RecurrentLayers, ASampleDoesNotSeeTheOthers) {
  for (const RecurrentKind kind : kKinds) {
    const Problem p{kind, 4, 40, 70, 2, true};
    const Results all = run_layer(portable_row(), p, 0, p.batch);
    for (const int64_t sample : {0, 13, 39}) {
      const Results one = run_layer(portable_row(), p, sample, sample + 1);
      for (int64_t row = 0; row < p.steps * p.sides; ++row) {
        expect_same_bits(one.y.data() + row * p.hidden,
                         all.y.data() + (row * p.batch + sample) * p.hidden, p.hidden);
      }
    }
  }
}

TEST(RecurrentLayers, RowsThatDoNotTakeThem) {
  for (const MatmulRow& row : convolution_rows()) {
    if (takes_recurrent(row)) continue;
    RecurrentArgs args;
    args.hidden = 8;
    EXPECT_THROW(plan_recurrent(row, args), InternalError) << row.name;
  }
}

}  // namespace
}  // namespace planck
