// A tile is a block of patches of one image times a group of weight panels. It transforms its
// patches, which is cheap beside the products, multiplies point by point, transforms each panel's
// columns back, and ends line by line as every integer product does.
#include "kernels/qwinograd/qwinograd.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/qmatmul/epilogue.h"
#include "kernels/qwinograd/rows.h"

namespace planck {
namespace {

constexpr int64_t kLanes = kQwinogradLanes;
constexpr int64_t kLine = 64;

QwinogradFns fns_of(QwinogradForm form, Isa isa) {
  struct Row {
    int64_t out;
    Isa isa;
    QwinogradFns fns;
  };
  constexpr Row kRows[] = {
#define PLANCK_QWINOGRAD(name, outputs, level) {outputs, Isa::level, {name##_input, name##_output}},
#include "kernels/qwinograd/kernels.inc"
#undef PLANCK_QWINOGRAD
  };
  for (const Row& row : kRows) {
    if (row.out == form.out && row.isa <= isa) return row.fns;
  }
  throw InternalError("no integer transforms of ", form.out, " outputs for ", isa);
}

// Patches of one image, row-major.
struct Block {
  int64_t image, y, x;  // of the first patch
  int64_t down, across;
  int64_t count() const { return down * across; }
};

// What a tile works in.
struct Room {
  uint8_t* padding;  // a place that does not exist
  int16_t* v;        // [points][patches][pitch]
  int32_t* m;        // [points][patches][16]
  int32_t* sums;     // [lines of outputs][16]
};

Room room_of(const QmatmulArgs& args, const Worker& worker) {
  const QmatmulArgs::Winograd& w = args.plan.winograd;
  auto* scratch = reinterpret_cast<uint8_t*>(worker.scratch);
  return {scratch, reinterpret_cast<int16_t*>(scratch + w.v_offset),
          reinterpret_cast<int32_t*>(scratch + w.m_offset),
          reinterpret_cast<int32_t*>(scratch + w.sums_offset)};
}

void transform_patches(const QmatmulArgs& args, const Block& block, const Room& room) {
  const QmatmulArgs::Winograd& w = args.plan.winograd;
  const MatmulWindows& windows = *args.windows;
  const uint8_t* image = args.a + block.image * windows.image_step;
  std::memset(room.padding, padding_byte(args), static_cast<size_t>(windows.channels));
  const uint8_t* place[kQwinogradMostPoints];
  QwinogradInput in{place, windows.channels, room.v, w.patches * w.pitch};
  for (int64_t patch = 0; patch < block.count(); ++patch, in.v += w.pitch) {
    const int64_t top = (block.y + patch / block.across) * w.form.out - windows.y.begin;
    const int64_t left = (block.x + patch % block.across) * w.form.out - windows.x.begin;
    for (int64_t i = 0; i < w.form.points(); ++i) {
      const int64_t y = top + i / w.form.in(), x = left + i % w.form.in();
      const bool inside = y >= 0 && y < windows.y.in && x >= 0 && x < windows.x.in;
      place[i] = inside ? image + y * windows.y.step + x * windows.x.step : room.padding;
    }
    w.input(in);
  }
}

// Point by point, patches x channels times channels x 16 columns of one panel; `next` follows.
void multiply_panel(const QmatmulArgs& args, int64_t patches, const int8_t* panel, const Room& room,
                    const int8_t* next) {
  const QmatmulArgs::Winograd& w = args.plan.winograd;
  const int64_t matrix = args.plan.panel_bytes / w.form.points();
  jit::QgemmBlock block;
  block.rows = patches;
  block.columns = kLanes;
  block.panel_stride = args.plan.panel_bytes;
  block.call.groups = ceil_div(args.windows->channels, 2);
  block.call.a_stride = w.pitch * int64_t{sizeof(int16_t)};
  block.call.c_stride = kLanes * int64_t{sizeof(int32_t)};
  block.prefetch_bytes = matrix;
  for (int64_t point = 0; point < w.form.points(); ++point) {
    block.call.a = room.v + point * w.patches * w.pitch;
    block.call.b = panel + point * matrix;
    block.call.c = room.m + point * w.patches * kLanes;
    block.prefetch = point + 1 < w.form.points() ? block.call.b + matrix : next;
    jit::multiply(w.words, block);
  }
}

// Outputs that exist, of all that the block's patches make.
struct Outputs {
  int64_t rows, columns;
};
Outputs outputs_of(const QmatmulArgs& args, const Block& block) {
  const MatmulWindows& windows = *args.windows;
  const int64_t out = args.plan.winograd.form.out;
  return {std::min(out * block.down, windows.y.out - out * block.y),
          std::min(out * block.across, windows.x.out - out * block.x)};
}

void transform_back(const QmatmulArgs& args, const Block& block, const Room& room) {
  const QmatmulArgs::Winograd& w = args.plan.winograd;
  const Outputs all = outputs_of(args, block);
  const int64_t side = w.form.out;
  QwinogradOutput out{room.m, w.patches * kLanes, nullptr, all.columns * kLanes, 0, 0};
  for (int64_t y = 0; y < block.down; ++y) {
    out.rows = std::min(side, all.rows - side * y);
    for (int64_t x = 0; x < block.across; ++x, out.m += kLanes) {
      out.columns = std::min(side, all.columns - side * x);
      out.sums = room.sums + side * (y * out.row_step + x * kLanes);
      w.output(out);
    }
  }
}

// Columns of one panel, of all the block's outputs; those of whole lines are rows of C.
void store_panel(const QmatmulArgs& args, const Block& block, int64_t column, const Room& room,
                 const QmatmulEnds& ends) {
  const MatmulWindows& w = *args.windows;
  const Outputs all = outputs_of(args, block);
  const bool whole = all.columns == w.x.out && args.plan.strip == nullptr;
  const int64_t out = args.plan.winograd.form.out;
  const int64_t line = (block.image * w.y.out + out * block.y) * w.x.out;
  QmatmulArea area{line + out * block.x, column, all.columns, std::min(kLanes, args.n - column)};
  if (whole) area.rows *= all.rows;
  for (int64_t row = 0; row < (whole ? 1 : all.rows); ++row, area.row += w.x.out) {
    jit::QgemmBlock end;
    end.rows = area.rows;
    end.columns = area.columns;
    end.call.a = room.sums + row * all.columns * kLanes;
    end.call.a_stride = kLanes * int64_t{sizeof(int32_t)};
    set_epilogue(args, ends, area, end.call);
    jit::multiply(args.plan.tile, end);
    run_program(args, ends, area);
  }
}

Block block_of(const QmatmulArgs& args, int64_t index) {
  const QmatmulArgs::Winograd& w = args.plan.winograd;
  const int64_t across = index % w.blocks_across, down = index / w.blocks_across % w.blocks_down;
  Block block{index / w.blocks_across / w.blocks_down, down * w.down, across * w.across, 0, 0};
  block.down = std::min(w.down, w.patches_down - block.y);
  block.across = std::min(w.across, w.patches_across - block.x);
  return block;
}

void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const QmatmulArgs*>(raw);
  const QmatmulArgs::Plan& plan = args.plan;
  // Blocks inside: a team reads a group's weights from memory once, for all blocks of its tiles.
  const Block block = block_of(args, tile % plan.m_blocks);
  const Room room = room_of(args, worker);
  QmatmulEnds ends = ends_of(args);
  ends.stage = reinterpret_cast<float*>(worker.scratch + plan.stage_offset);
  transform_patches(args, block, room);
  const int64_t first = tile / plan.m_blocks * args.cut.panels;
  const int64_t last = std::min(plan.n_panels, first + args.cut.panels);
  // What this worker is likely to read next: tickets go round.
  const int64_t ahead = (tile + worker.count) / plan.m_blocks % plan.n_groups * args.cut.panels;
  for (int64_t panel = first; panel < last; ++panel) {
    const int8_t* b = args.b + panel * plan.panel_bytes;
    const int64_t next = panel + 1 < last ? panel + 1 : ahead;
    multiply_panel(args, block.count(), b, room, args.b + next * plan.panel_bytes);
    transform_back(args, block, room);
    store_panel(args, block, panel * kLanes, room, ends);
  }
}

// --- planning

// Blocks of whole lines of patches where those are short. Each reads all weights once, so that it
// should have some rows for them, and what its products leave should stay near; yet more blocks are
// better than more groups of panels.
void choose_blocks(QmatmulArgs& args) {
  QmatmulArgs::Winograd& w = args.plan.winograd;
  constexpr int64_t kBlocks = 4, kLeast = 16, kMost = 56;
  const int64_t bytes = w.form.points() * w.pitch * int64_t{sizeof(int16_t)};
  const int64_t fits = std::clamp(this_device().l2_bytes / 2 / bytes, kLeast, kMost);
  const int64_t all = w.patches_down * w.patches_across;
  int64_t most = std::clamp(all / kBlocks, kLeast, fits);
  if (args.cut.m_block > 0) most = args.cut.m_block;
  w.across = ceil_div(w.patches_across, ceil_div(w.patches_across, most));
  const int64_t down = std::clamp<int64_t>((most + w.across / 2) / w.across, 1, w.patches_down);
  w.down = ceil_div(w.patches_down, ceil_div(w.patches_down, down));
  w.patches = w.down * w.across;
  w.blocks_down = ceil_div(w.patches_down, w.down);
  w.blocks_across = ceil_div(w.patches_across, w.across);
}

// Patches are transformed again for every group of panels.
void choose_panels(QmatmulArgs& args, int64_t blocks) {
  constexpr int64_t kEnough = 8;
  QmatmulArgs::Plan& plan = args.plan;
  if (args.cut.panels == 0) args.cut.panels = plan.n_panels * std::min(blocks, kEnough) / kEnough;
  args.cut.panels = std::clamp<int64_t>(args.cut.panels, 1, plan.n_panels);
  plan.n_groups = ceil_div(plan.n_panels, args.cut.panels);
}

void choose_scratch(QmatmulArgs& args) {
  QmatmulArgs::Plan& plan = args.plan;
  QmatmulArgs::Winograd& w = plan.winograd;
  const auto room = [&](int64_t count, int64_t each) {
    const int64_t bytes = round_up(checked_mul(count, each, "patches"), kLine);
    plan.scratch_bytes = checked_add(plan.scratch_bytes, bytes, "patches");
    return plan.scratch_bytes - bytes;
  };
  room(args.windows->channels, 1);
  const int64_t points = checked_mul(w.form.points(), w.patches, "patches");
  const int64_t outputs = w.form.out * w.form.out * w.patches;
  w.v_offset = room(points, w.pitch * int64_t{sizeof(int16_t)});
  w.m_offset = room(points, kLanes * int64_t{sizeof(int32_t)});
  w.sums_offset = room(outputs, kLanes * int64_t{sizeof(int32_t)});
  plan.stage_offset = room(outputs, plan.staged ? kLanes * int64_t{sizeof(float)} : 0);
}

}  // namespace

bool is_qwinograd(const WindowSteps& axis) {
  return axis.kernel == 3 && axis.stride == 1 && axis.dilation == 1;
}

Job plan_qwinograd(const QmatmulRow& row, QmatmulArgs& args) {
  QmatmulArgs::Plan& plan = args.plan;
  QmatmulArgs::Winograd& w = plan.winograd;
  if (args.windows == nullptr || args.batch_rank != 0 || !is_qwinograd(args.windows->y) ||
      !is_qwinograd(args.windows->x)) {
    throw InternalError("an integer product by Winograd without windows of 3 x 3");
  }
  const MatmulWindows& windows = *args.windows;
  w.form = winograd_form(row.unit);
  const QwinogradFns fns = fns_of(w.form, row.isa);
  w.input = fns.input, w.output = fns.output;
  const bool bytes = choose_epilogue(row, args);
  constexpr int kEndRows = 4;
  plan.tile = jit::qgemm_tile(row.isa, jit::QgemmUnit::sums, kEndRows, kLanes, bytes);
  w.words = jit::qgemm_tile(row.isa, jit::QgemmUnit::words, row.tile_m, kLanes, false);
  plan.chunk = kLanes;
  plan.panel_bytes = panel_bytes(row, args.k);
  plan.n_panels = ceil_div(args.n, kLanes);
  w.patches_down = ceil_div(windows.y.out, w.form.out);
  w.patches_across = ceil_div(windows.x.out, w.form.out);
  if (args.m == 0 || args.n == 0) return {run_tile, &args, 0};
  // Rows of a register tile apart by a multiple of 1 KiB would share few cache sets; and there is
  // room for the longest vector.
  w.pitch = round_up(windows.channels, kLanes) + kLanes;
  choose_blocks(args);
  const int64_t images = args.m / (windows.y.out * windows.x.out);
  const int64_t blocks =
      checked_mul(images, checked_mul(w.blocks_down, w.blocks_across, "patches"), "patches");
  plan.m_blocks = blocks;
  choose_panels(args, blocks);
  choose_scratch(args);
  return {run_tile, &args, checked_mul(blocks, plan.n_groups, "tiles")};
}

}  // namespace planck
