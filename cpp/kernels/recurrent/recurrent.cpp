// A step of time multiplies the state before by its weights, for a group of blocks and some
// samples, and makes of the sums the state behind. Small layers walk all steps in one tile; others
// have a job for each phase of a step, whose tiles are parts of the hidden units: each core keeps
// its part of the weights.
#include <algorithm>

#include "base/checked.h"
#include "base/guard.h"
#include "kernels/recurrent/rows.h"

namespace planck {
namespace {

struct Cells {
  RecurrentCellFn rnn_tanh, rnn_relu, gru_gates, gru, gru_linear, lstm;
};

Cells cells_of(Isa isa) {
  struct Row {
    Isa isa;
    Cells cells;
  };
  constexpr Row kRows[] = {
#define PLANCK_RECURRENT(name, level)                                                  \
  {Isa::level,                                                                         \
   {name##_rnn_tanh, name##_rnn_relu, name##_gru_gates, name##_gru, name##_gru_linear, \
    name##_lstm}},
#include "kernels/recurrent/kernels.inc"
#undef PLANCK_RECURRENT
  };
  for (const Row& row : kRows) {
    if (row.isa <= isa) return row.cells;
  }
  throw InternalError("no recurrent cells for ", isa);
}

RecurrentCellFn cell_of(const Cells& cells, RecurrentKind kind, int phase) {
  switch (kind) {
    case RecurrentKind::rnn_tanh:
      return cells.rnn_tanh;
    case RecurrentKind::rnn_relu:
      return cells.rnn_relu;
    case RecurrentKind::gru:
      return phase == 0 ? cells.gru_gates : cells.gru;
    case RecurrentKind::gru_linear:
      return cells.gru_linear;
    case RecurrentKind::lstm:
      break;
  }
  return cells.lstm;
}

// What a tile works on: blocks [from, to) of a side, for samples [first, last).
struct Part {
  int64_t side, from, to, first, last;
};

// One phase of one step of one part.
class Walk {
 public:
  Walk(const RecurrentArgs& args, const RecurrentSizes& sizes, int64_t step, int phase)
      : a_(args), sizes_(sizes), step_(step), phase_(phase) {}

  void run(const Part& part, float* sums) const {
    const int64_t blocks = a_.plan.group_blocks[phase_], rows = a_.plan.group_rows;
    for (int64_t b = part.from; b < part.to; b += blocks) {
      for (int64_t r = part.first; r < part.last; r += rows) {
        const Part group{part.side, b, std::min(part.to, b + blocks), r,
                         std::min(part.last, r + rows)};
        if (reads_state(part.side)) multiply(group, sums);
        finish(group, sums);
      }
    }
  }

 private:
  // Where the step lies in time.
  int64_t time(int64_t side) const {
    return (side == 1) != a_.reverse ? a_.steps - 1 - step_ : step_;
  }
  float* state(int64_t which, int64_t side, int64_t row) const {
    return a_.states + ((which * a_.sides + side) * a_.batch + row) * sizes_.pitch();
  }
  static const float* at(const RecurrentArgs::State& s, int64_t side, int64_t row) {
    return s.first == nullptr ? nullptr : s.first + side * s.side + row * s.row;
  }
  // Which of the two states of h a step reads, and writes.
  int64_t before() const { return (step_ + 1) % 2; }
  int64_t behind() const { return step_ % 2; }
  const float* h_before(int64_t side, int64_t row) const {
    return step_ == 0 ? at(a_.h, side, row) : state(before(), side, row);
  }
  const float* c_before(int64_t side, int64_t row) const {
    return step_ == 0 ? at(a_.c, side, row) : state(2, side, row);
  }
  bool is_gru() const { return a_.kind == RecurrentKind::gru; }
  // Not where it is 0 or stays as it is.
  bool reads_state(int64_t side) const { return a_.steps > 0 && h_before(side, 0) != nullptr; }
  int64_t gates() const { return sizes_.form.gates[phase_]; }
  int64_t pitch() const {
    return a_.plan.group_blocks[phase_] * gates() * kRecurrentUnits + kRecurrentUnits;
  }

  void multiply(const Part& g, float* sums) const {
    const jit::GemmTile& tile = a_.plan.tile;
    int64_t column = g.side * sizes_.side_weights() + g.from * gates() * kRecurrentUnits;
    if (phase_ == 1) column += sizes_.weight_columns(0);
    jit::GemmBlock block;
    block.rows = g.last - g.first;
    block.columns = (g.to - g.from) * gates() * kRecurrentUnits;
    block.panel_stride = a_.hidden * tile.columns;
    block.call.k = a_.hidden;
    block.call.b = a_.w + column / tile.columns * block.panel_stride;
    block.call.c = sums;
    block.call.c_stride = pitch();
    if (is_gru() && phase_ == 1) {
      block.call.a = state(2, g.side, g.first);
      block.call.a_stride = sizes_.pitch();
    } else {
      block.call.a = h_before(g.side, g.first);
      block.call.a_stride = step_ == 0 ? a_.h.row : sizes_.pitch();
    }
    jit::multiply(tile, block);
  }

  void finish(const Part& g, const float* sums) const {
    const int64_t unit = g.from * kRecurrentUnits;
    const int64_t t = time(g.side);
    const bool last = phase_ + 1 == sizes_.form.phases && step_ + 1 >= a_.steps;
    const auto moved = [&](const float* p) { return p == nullptr ? nullptr : p + unit; };
    RecurrentCell cell{};
    cell.units = std::min(a_.hidden, g.to * kRecurrentUnits) - unit;
    if (a_.more != nullptr) {
      cell.more = a_.more + g.side * sizes_.more_floats() + unit * sizes_.form.more;
    }
    for (int64_t row = g.first; row < g.last; ++row) {
      const auto result = [&](const RecurrentArgs::Result& r, int64_t step) {
        return r.first == nullptr ? nullptr
                                  : r.first + step * r.step + g.side * r.side + row * r.row + unit;
      };
      cell.ended = a_.steps == 0 || (a_.lengths != nullptr && t >= a_.lengths[row]);
      cell.x = a_.x + t * a_.x_step + row * a_.x_row + g.side * sizes_.side_columns() +
               (phase_ == 1 ? sizes_.columns(0) : 0) + unit * gates();
      cell.r = reads_state(g.side) ? sums + (row - g.first) * pitch() : nullptr;
      cell.h = moved(h_before(g.side, row));
      cell.h_out = state(behind(), g.side, row) + unit;
      if (a_.kind == RecurrentKind::lstm) {
        cell.c = moved(c_before(g.side, row));
        cell.c_out = state(2, g.side, row) + unit;
      } else if (is_gru()) {
        if (phase_ == 0) cell.h_out = state(2, g.side, row) + unit;
        cell.c_out = state(3, g.side, row) + unit;
      }
      if (phase_ + 1 == sizes_.form.phases && a_.steps > 0) cell.y = result(a_.y, t);
      if (last) cell.last_h = result(a_.last_h, 0);
      if (last) cell.last_c = result(a_.last_c, 0);
      a_.plan.cells[phase_](cell);
    }
  }

  const RecurrentArgs& a_;
  const RecurrentSizes& sizes_;
  const int64_t step_;
  const int phase_;
};

void check_lengths(const RecurrentArgs& args, const Part& part) {
  if (args.lengths == nullptr) return;
  for (int64_t row = part.first; row < part.last; ++row) {
    const int32_t length = args.lengths[row];
    if (length >= 0 && length <= args.steps) continue;
    throw RunError("sequence_lens holds ", length, ", outside [0, ", args.steps, "]");
  }
}

void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& moment = *static_cast<const RecurrentMoment*>(raw);
  const RecurrentArgs& args = *moment.args;
  const RecurrentArgs::Plan& plan = args.plan;
  const RecurrentSizes sizes(args.kind, args.hidden);
  auto* sums = reinterpret_cast<float*>(worker.scratch);
  const bool all = moment.step == RecurrentMoment::kAllSteps;
  const int64_t blocks = all ? sizes.blocks : plan.tile_blocks[moment.phase];
  const int64_t groups = ceil_div(sizes.blocks, blocks);
  const int64_t first = tile % plan.row_tiles * plan.tile_rows;
  const int64_t from = tile / plan.row_tiles % groups * blocks;
  const Part part{tile / plan.row_tiles / groups, from, std::min(sizes.blocks, from + blocks),
                  first, std::min(args.batch, first + plan.tile_rows)};
  if (!all) {
    if (moment.step == 0) check_lengths(args, part);
    return Walk(args, sizes, moment.step, moment.phase).run(part, sums);
  }
  check_lengths(args, part);
  for (int64_t step = 0; step < std::max<int64_t>(args.steps, 1); ++step) {
    check_guard();
    for (int phase = args.steps == 0 ? sizes.form.phases - 1 : 0; phase < sizes.form.phases;
         ++phase) {
      Walk(args, sizes, step, phase).run(part, sums);
    }
  }
}

constexpr int64_t kGroupColumns = 256;  // of a product: its sums stay in L1

// Blocks whose columns fill whole panels.
int64_t least_blocks(int64_t gates, int64_t panel) {
  int64_t blocks = 1;
  while (blocks * gates * kRecurrentUnits % panel != 0) ++blocks;
  return blocks;
}

// Multiply-adds of a step that are worth a job with its barrier, and a tile of one. A sample alone
// waits for its weights as long as two take.
constexpr int64_t kWorthJob = 64 << 10, kWorthTile = 32 << 10;
constexpr int64_t kFewRows = 4;

// Samples of a tile that walks the whole sequence: few tiles for few samples, else full heights.
int64_t rows_of_walk(const RecurrentArgs& args) {
  constexpr int64_t kTiles = 4;
  const int64_t rows = ceil_div(args.batch, ceil_div(kTiles, args.sides));
  return std::clamp<int64_t>(rows, std::min<int64_t>(kFewRows, args.plan.tile.rows),
                             args.plan.tile.rows);
}

// Whether tiles walk the whole sequence, each with some samples of a side: where a step is hardly
// worth a barrier, or where there are many samples and the weights stay in the L2 of each core.
bool walks_whole(const RecurrentArgs& args, const RecurrentSizes& sizes) {
  constexpr int64_t kEnoughTiles = 8;
  if (args.steps <= 1) return args.steps == 0;
  const int64_t weights = args.hidden * sizes.side_columns();
  const int64_t rows = rows_of_walk(args);
  const bool stay = weights * int64_t{sizeof(float)} <= this_device().l2_bytes / 4;
  if (stay && args.sides * ceil_div(args.batch, rows) >= kEnoughTiles) return true;
  return weights * std::clamp<int64_t>(args.batch, 2, rows) < kWorthJob;
}

// Few samples wait for weights: from beyond L2 these come fastest as one stream.
jit::Stream stream_of(const RecurrentArgs& args, const RecurrentSizes& sizes) {
  const int64_t floats = args.sides * args.hidden * sizes.side_columns();
  const bool far = floats * int64_t{sizeof(float)} > this_device().l2_bytes;
  return far && args.batch <= kFewRows ? jit::Stream::alone : jit::Stream::none;
}

void cut(const RecurrentSizes& sizes, bool whole, RecurrentArgs& args) {
  RecurrentArgs::Plan& plan = args.plan;
  plan.group_rows = 2 * int64_t{plan.tile.rows};
  plan.tile_rows = whole ? rows_of_walk(args) : std::max<int64_t>(args.batch, 1);
  plan.row_tiles = ceil_div(args.batch, plan.tile_rows);
  for (int phase = 0; phase < sizes.form.phases; ++phase) {
    const int64_t columns = sizes.form.gates[phase] * kRecurrentUnits;
    const int64_t least = least_blocks(sizes.form.gates[phase], plan.tile.columns);
    const int64_t work = std::max<int64_t>(1, args.batch * args.hidden * columns);
    plan.tile_blocks[phase] = std::max(least, kWorthTile / work / least * least);
    plan.group_blocks[phase] = std::max(least, kGroupColumns / columns / least * least);
    const int64_t pitch = plan.group_blocks[phase] * columns + kRecurrentUnits;
    plan.scratch_bytes =
        std::max(plan.scratch_bytes, plan.group_rows * pitch * int64_t{sizeof(float)});
  }
}

}  // namespace

std::vector<Job> plan_recurrent(const MatmulRow& row, RecurrentArgs& args) {
  if (!takes_recurrent(row) || args.hidden <= 0) {
    throw InternalError("recurrent weights of ", args.hidden, " units for ", row.name);
  }
  const RecurrentSizes sizes(args.kind, args.hidden);
  RecurrentArgs::Plan& plan = args.plan;
  plan.tile = tile_of(row, stream_of(args, sizes));
  const Cells cells = cells_of(row.isa);
  for (int phase = 0; phase < sizes.form.phases; ++phase) {
    plan.cells[phase] = cell_of(cells, args.kind, phase);
  }
  const bool whole = walks_whole(args, sizes);
  cut(sizes, whole, args);
  plan.moments.clear();
  if (whole) plan.moments.push_back({&args, RecurrentMoment::kAllSteps, 0});
  for (int64_t step = 0; !whole && step < args.steps; ++step) {
    for (int phase = 0; phase < sizes.form.phases; ++phase) {
      plan.moments.push_back({&args, step, phase});
    }
  }
  std::vector<Job> jobs;
  for (const RecurrentMoment& m : plan.moments) {
    const int64_t groups = whole ? 1 : ceil_div(sizes.blocks, plan.tile_blocks[m.phase]);
    jobs.push_back({run_tile, &m, args.sides * groups * plan.row_tiles, true});
  }
  return jobs;
}

}  // namespace planck
