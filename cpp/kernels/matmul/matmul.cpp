// Cuts a product into tiles and runs them. A tile is (batch item, block of rows, group of panels);
// blocks of rows come outside groups, so that the block of A stays in every core's L2 while each
// weight panel enters the L2 of one core only.
#include <xmmintrin.h>

#include <algorithm>
#include <cstdint>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/jit/panels.h"
#include "kernels/matmul/bands.h"
#include "kernels/matmul/rows.h"
#include "kernels/matmul/tile.h"

namespace planck {
namespace {

// Enough tiles for the cores that we meet, and for the last ones of a step to end together.
constexpr int64_t kEnoughTiles = 24;
// Up to so many rows memory is slower than the sums, where B does not come from a cache.
constexpr int64_t kStreamRows = 8;
constexpr int64_t kLine = 16;  // floats
// Much more work than taking a ticket.
constexpr int64_t kTileProducts = 1 << 20;

int64_t items(const MatmulArgs& args) {
  int64_t count = 1;
  for (int axis = 0; axis < args.batch_rank; ++axis) {
    count = checked_mul(count, args.batch[axis].extent, "batch of a product");
  }
  return count;
}

// Floats of a block of A, which leaves a quarter of L2 to panels.
int64_t room_for_a(const Device& device) {
  return device.l2_bytes * 3 / 4 / int64_t{sizeof(float)};
}

// The longest K whose block of A leaves a quarter of L2 to panels. They may be longer than that: to
// go on from C costs more than lines that have left L2.
int64_t longest_k(int64_t rows, int64_t a_floats) {
  return std::max<int64_t>(a_floats / rows, 128);
}

// Whether the weights of all items stay in every core's L2.
bool has_few_weights(const MatmulArgs& args) {
  int64_t columns = round_up(args.n, args.plan.tile.columns);
  for (int axis = 0; axis < args.batch_rank; ++axis) {
    if (args.batch[axis].b != 0) columns = checked_mul(columns, args.batch[axis].extent);
  }
  return args.b_packed && args.k > 0 && columns <= this_device().l2_bytes / 4 / args.k;
}

// Many rows over few weights: each core keeps all weights in its L2 and works on rows of its own,
// the next of which are on their way meanwhile. As many blocks as divide equally among most teams.
bool has_own_rows(const MatmulArgs& args) {
  constexpr int64_t kFewestRows = 48;
  const MatmulCut& cut = args.cut;
  return cut.m_block == 0 && cut.k_block == 0 && cut.panels == 0 && args.windows == nullptr &&
         args.a_stride == args.k && args.m >= kEnoughTiles * kFewestRows &&
         args.k <= longest_k(128, room_for_a(this_device())) && has_few_weights(args);
}

MatmulCut cut_by_rows(const MatmulArgs& args) {
  constexpr int64_t kMostRows = 96;
  const int64_t blocks = round_up(ceil_div(args.m, kMostRows), kEnoughTiles);
  return {ceil_div(args.m, blocks), args.k, ceil_div(args.n, args.plan.tile.columns)};
}

// Panels of a tile, about so many: groups of equal size if that takes no more than `most`, else of
// nearly equal size.
int64_t equal_panels(int64_t panels, int64_t wanted, int64_t most) {
  for (int64_t each = wanted; each <= most && each < 2 * wanted; ++each) {
    if (panels % each == 0) return each;
  }
  return ceil_div(panels, ceil_div(panels, wanted));
}

MatmulCut choose_cut(const MatmulArgs& args, int64_t count, const Device& device) {
  MatmulCut cut = args.cut;
  const jit::GemmTile& tile = args.plan.tile;
  const int64_t a_floats = room_for_a(device);
  const int64_t k = std::max<int64_t>(args.k, 1);
  // Where half of the rows still repay a panel, a worker keeps to its own: what it wrote a step
  // before is in its cache.
  constexpr int64_t kRepay = 48;
  const int64_t halves = args.m >= 2 * kRepay && args.windows == nullptr ? 2 : 1;
  if (cut.k_block == 0) {
    // Blocks of 128 rows are enough to reuse a panel; longer K than fits with them is cut evenly.
    const int64_t rows = std::clamp<int64_t>(ceil_div(args.m, halves), 1, 128);
    const int64_t blocks = ceil_div(k, longest_k(rows, a_floats));
    cut.k_block = round_up(ceil_div(k, blocks), 4);
  }
  if (cut.m_block == 0) {
    const int64_t fits = std::max<int64_t>(a_floats / cut.k_block, tile.rows);
    const int64_t most = std::clamp<int64_t>(fits, 128, 240);
    const int64_t blocks = round_up(std::max<int64_t>(1, ceil_div(args.m, most)), halves);
    cut.m_block = std::max<int64_t>(1, ceil_div(args.m, blocks));
  }
  const int64_t n_panels = ceil_div(args.n, tile.columns);
  // Small weights are read again rather than windows gathered again.
  const bool rows_only = args.windows != nullptr && cut.panels == 0 &&
                         args.m > int64_t{4} * tile.rows &&
                         n_panels * tile.columns * k <= a_floats / 8;
  if (rows_only) cut.panels = n_panels;
  // Few columns: cut the rows further, down to a few register tiles.
  const int64_t groups = rows_only ? 1 : n_panels;
  while (cut.m_block > int64_t{4} * tile.rows && args.cut.m_block == 0 &&
         count * groups * ceil_div(args.m, cut.m_block) < kFewTiles) {
    cut.m_block = ceil_div(cut.m_block, 2);
  }
  if (cut.panels == 0) {
    const int64_t work = std::max<int64_t>(1, cut.m_block * tile.columns * k);
    const int64_t others = count * ceil_div(args.m, std::max<int64_t>(1, cut.m_block));
    const bool gathers = args.windows != nullptr;
    const int64_t enough = tile.once ? stream_tiles(args) : gathers ? kGatherTiles : kEnoughTiles;
    const int64_t most = std::max<int64_t>(1, n_panels * others / enough);
    const int64_t least = gathers || tile.once ? most : ceil_div(kTileProducts, work);
    const int64_t wide =
        cut.m_block <= tile.rows ? tile.panels[std::max<int64_t>(1, cut.m_block)] : 1;
    cut.panels = round_up(std::clamp<int64_t>(least, 1, most), wide);
    if (wide == 1 && n_panels > 0) cut.panels = equal_panels(n_panels, cut.panels, most);
  }
  return cut;
}
// there are several blocks of them. Rows of windows only where the weights, which each worker reads
// then, are few, or much less than A and C.
bool goes_along(const MatmulArgs& args) {
  if (!args.b_packed || args.windows == nullptr) return args.b_packed;
  const auto m = static_cast<double>(args.m * args.plan.items);
  const double rest = m * static_cast<double>(args.windows->channels + args.n);
  const double weights = static_cast<double>(args.n) * static_cast<double>(args.k);
  const double few = static_cast<double>(this_device().l2_bytes) / sizeof(float) / 4;
  return weights <= few || weights <= rest / 4;
}

// Whether it is this worker's first tile of the step, whose rows of A it has not just written.
bool is_first(const MatmulArgs& args, int64_t tile, const Worker& worker) {
  const MatmulArgs::Plan& plan = args.plan;
  if (!plan.along) return tile < worker.count;
  const int64_t tiles = plan.items * plan.m_blocks * plan.n_groups;
  return plan.m_blocks == 1 && tile == part_begin(tiles, worker.index, worker.count);
}

// The first operand of the program with rows of its own; 0 where there is none.
int operand_of_rows(const MatmulArgs& args) {
  const MatmulEpilogue& epilogue = args.epilogue;
  for (int i = 1; epilogue.program != nullptr && i < epilogue.program->operands; ++i) {
    const EltOperand& operand = epilogue.operands[i];
    if (operand.row_stride > 0 && operand.column_stride == 1 && operand.type == EltType::f32) {
      return i;
    }
  }
  return 0;
}

// The rows of A, and of a residual, of a tile with all columns. Rows that this tile reads as well
// are there.
void prefetch_rows(const MatmulArgs& args, int64_t tile, jit::GemmBlock& block) {
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t first = tile % plan.m_blocks * args.cut.m_block;
  const int64_t bytes =
      std::min(args.cut.m_block, args.m - first) * static_cast<int64_t>(sizeof(float));
  const MatmulItem item = item_of(args, tile / plan.m_blocks);
  block.prefetch = item.a + first * args.a_stride;
  block.prefetch_bytes = bytes * args.a_stride;
  const float* rows = item.residual;
  int64_t stride = args.epilogue.residual_stride;
  if (const int i = operand_of_rows(args); rows == nullptr && i > 0) {
    rows = static_cast<const float*>(item.operands[i].data);
    stride = item.operands[i].row_stride;
    if (rows == block.call.operands[i].data && first == block.call.row) return;
  }
  if (rows == nullptr) return;
  block.prefetch_then = rows + first * stride;
  block.prefetch_then_bytes = bytes * stride;
}

// What this worker is likely to read next; behind its last tile, the next step's weights.
void prefetch_next(const MatmulArgs& args, int64_t tile, const Worker& worker,
                   jit::GemmBlock& block) {
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t tiles = plan.items * plan.m_blocks * plan.n_groups;
  const int64_t next = tile_after(args, tile, worker);
  const int64_t floats = args.cut.panels * block.panel_stride;
  if (plan.along && next >= part_begin(tiles, worker.index + 1, worker.count)) {
    // The worker's part of the next step's weights, which begins anew for each block of rows.
    const int64_t index = worker.index * plan.m_blocks % worker.count;
    const int64_t from = part_begin(args.next.floats / kLine, index, worker.count) * kLine;
    block.prefetch = args.next.weights + from;
    block.prefetch_bytes = std::min(floats, args.next.floats - from) * int64_t{sizeof(float)};
  } else if (next >= tiles) {
    const int64_t from = std::min((next - tiles) * floats, args.next.floats);
    block.prefetch = args.next.weights + from;
    block.prefetch_bytes = std::min(floats, args.next.floats - from) * int64_t{sizeof(float)};
  } else if (plan.next_rows) {
    prefetch_rows(args, next, block);
  } else if (args.b_packed) {
    const int64_t first = next % plan.n_groups * args.cut.panels;
    const int64_t panels = std::min(args.cut.panels, plan.n_panels - first);
    const MatmulItem item = item_of(args, next / plan.n_groups / plan.m_blocks);
    block.prefetch = item.b + first * block.panel_stride;
    block.prefetch_bytes = panels * block.panel_stride * int64_t{sizeof(float)};
  }
}

// The rows of A before what comes next: spread over the block as that is, they hold up nothing.
void prefetch_a(jit::GemmBlock& block) {
  constexpr int64_t kFirst = 4;  // rows that are needed at once
  if (block.rows <= kFirst || block.prefetch_then != nullptr) return;
  block.prefetch_then = block.prefetch;
  block.prefetch_then_bytes = block.prefetch_bytes;
  block.prefetch = block.call.a + kFirst * block.call.a_stride;
  block.prefetch_bytes =
      (block.rows - kFirst) * block.call.a_stride * static_cast<int64_t>(sizeof(float));
  block.a_is_far = false;
}

// A block of windows as rows of A; `first` is the first row of the tile.
void gather(const MatmulArgs& args, const float* picture, int64_t first, int64_t k,
            const Worker& worker, jit::GemmBlock& block) {
  float* to = reinterpret_cast<float*>(worker.scratch) + args.plan.gather_offset;
  gather_windows(*args.windows, picture, first, block.rows, k, block.call.k, to,
                 args.plan.gather_pitch);
  block.call.a = to;
  block.call.a_stride = args.plan.gather_pitch;
}

// All K blocks of one tile; the epilogue belongs to the last one.
void multiply_blocks(const MatmulArgs& args, jit::GemmBlock block, int64_t first_row,
                     const Worker& worker) {
  const jit::GemmCall whole = block.call;
  const int64_t bytes = block.prefetch_bytes;
  int64_t at = 0;
  do {
    const int64_t k = std::min(args.cut.k_block, args.k - at);
    const bool last = at + k >= args.k;
    block.call.k = k;
    if (args.windows != nullptr) {
      gather(args, whole.a, first_row, at, worker, block);
    } else {
      block.call.a = whole.a + at;
    }
    block.call.b = whole.b + at * args.plan.tile.columns;
    block.call.flags = last ? last_flags(args) : 0;
    if (at > 0) block.call.flags |= jit::kLoadC;
    block.call.bias = last ? whole.bias : nullptr;
    block.call.residual = last ? whole.residual : nullptr;
    block.prefetch_bytes = args.k > 0 ? bytes * k / args.k : 0;
    jit::multiply(tile_for(args, block), block);
    if (block.prefetch != nullptr) block.prefetch += block.prefetch_bytes / sizeof(float);
    at += k;
  } while (at < args.k);
}

void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const MatmulArgs*>(raw);
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t group = tile % plan.n_groups;
  const int64_t m_block = tile / plan.n_groups % plan.m_blocks;
  const MatmulItem item = item_of(args, tile / plan.n_groups / plan.m_blocks);

  MatmulArea area{m_block * args.cut.m_block, group * args.cut.panels * plan.tile.columns, 0, 0};
  area.rows = std::min(args.cut.m_block, args.m - area.row);
  area.columns = std::min(args.cut.panels * plan.tile.columns, args.n - area.column);
  const TileC c = c_of(args, item, area, worker);
  jit::GemmBlock block = block_of(args, item, area, c);
  if (args.b_packed) {
    block.call.b = item.b + area.column * args.k;
  } else {
    auto* packed = reinterpret_cast<float*>(worker.scratch);
    // Panels for this tile alone: B changes between runs, and its rows may lie anywhere.
    jit::pack_panels({area.columns, args.k, plan.tile.columns},
                     item.b + area.column * args.b_column_stride, args.b_row_stride,
                     args.b_column_stride, packed);
    block.call.b = packed;
  }
  prefetch_next(args, tile, worker, block);
  block.a_is_far = args.windows == nullptr && is_first(args, tile, worker);
  const bool at_once = args.a_stride == args.k && args.cut.k_block >= args.k && !plan.tile.once;
  if (block.a_is_far && at_once) prefetch_a(block);
  multiply_blocks(args, block, area.row, worker);
  if (plan.streaming.rows > 0) _mm_sfence();  // before the tile counts as done
  run_program(args, item, area, c);
}

// Room for the windows of one tile behind the panels.
void add_gather(MatmulArgs& args) {
  MatmulArgs::Plan& plan = args.plan;
  // A pitch of a multiple of 1 KiB would put the rows of a register tile into few cache sets.
  constexpr int64_t kSet = 256, kPad = 16;
  const int64_t k = std::min(args.cut.k_block, args.k);
  plan.gather_pitch = round_up(k, kPad) + (round_up(k, kPad) % kSet == 0 ? kPad : 0);
  plan.gather_offset = plan.scratch_bytes / static_cast<int64_t>(sizeof(float));
  const int64_t floats = checked_mul(args.cut.m_block, plan.gather_pitch, "gathered windows");
  plan.scratch_bytes += round_up(checked_mul(floats, sizeof(float), "gathered windows"), 64);
}

void check(const MatmulRow& row, const MatmulArgs& args) {
  if (args.m < 0 || args.n < 0 || args.k < 0 || args.batch_rank < 0 ||
      args.batch_rank > kMaxMatmulBatch) {
    throw InternalError("a product of ", args.m, " x ", args.n, " x ", args.k, " with ",
                        args.batch_rank, " batch axes");
  }
  if (args.epilogue.bytes != nullptr && (args.epilogue.program == nullptr || args.batch_rank > 0)) {
    throw InternalError("a product in bytes without a program, or of a batch");
  }
  if (row.pairs() && (args.windows == nullptr || args.batch_rank > 0 || !args.b_packed)) {
    throw InternalError(row.name, " takes windows and packed weights alone");
  }
  if (args.c_group > 0 &&
      (args.n % args.c_group != 0 || args.epilogue.bytes != nullptr ||
       args.epilogue.residual != nullptr || args.windows != nullptr ||
       (args.epilogue.program != nullptr && args.epilogue.program->operands != 1))) {
    throw InternalError("a product of ", args.n, " columns in groups of ", args.c_group);
  }
  if (args.windows != nullptr && args.windows->k() != args.k) {
    throw InternalError("windows of ", args.windows->k(), " elements for a product over ", args.k);
  }
}

jit::Stream stream_of(const MatmulRow& row, const MatmulArgs& args) {
  if (row.lanes == Lanes::rows || !args.b_packed ||
      args.m > std::min<int64_t>(row.tile_m, kStreamRows)) {
    return jit::Stream::none;
  }
  const int64_t most = this_device().l1_bytes / 4 / int64_t{sizeof(float)};
  return args.k <= most / std::max<int64_t>(args.m, 1) ? jit::Stream::alone : jit::Stream::together;
}

}  // namespace

Job plan_matmul(const MatmulRow& row, MatmulArgs& args) {
  check(row, args);
  MatmulArgs::Plan& plan = args.plan;
  plan = {};
  plan.tile = tile_of(row, stream_of(row, args));
  plan.items = items(args);
  plan.along = goes_along(args);
  if (fits_band(args) && args.m > 0 && args.n > 0) return plan_bands(row, args);
  if (args.windows == nullptr) keep_rows_in_l1(args, args.a_stride);
  plan.own_rows = has_own_rows(args);
  args.cut = plan.own_rows ? cut_by_rows(args) : choose_cut(args, plan.items, this_device());
  plan.n_panels = ceil_div(args.n, row.tile_n);
  plan.n_groups = ceil_div(plan.n_panels, args.cut.panels);
  plan.m_blocks = ceil_div(args.m, args.cut.m_block);
  const bool whole_rows = plan.along && args.windows == nullptr && plan.n_groups == 1;
  // Rows of A lie close together, or are not worth asking for all that lies between them.
  const bool close = args.a_stride <= 2 * args.k && has_few_weights(args);
  plan.next_rows = plan.own_rows || (whole_rows && (close || operand_of_rows(args) > 0));
  if (!args.b_packed) {
    const int64_t floats = checked_mul(args.cut.panels * row.tile_n, args.k, "packed panels");
    plan.scratch_bytes = round_up(checked_mul(floats, sizeof(float), "packed panels"), 64);
  }
  if (args.windows != nullptr) add_gather(args);
  const int64_t last_rows = args.m - (plan.m_blocks - 1) * args.cut.m_block;
  plan_kernels(row, args, {}, {{std::min(args.m, args.cut.m_block), last_rows}, args.n});
  if (args.epilogue.bytes != nullptr) add_c(args, args.cut.m_block);
  const int64_t tiles = checked_mul(plan.n_groups, plan.m_blocks, "tiles");
  return {run_tile, &args, checked_mul(tiles, plan.items, "tiles"), plan.along};
}

}  // namespace planck
