// Cuts a product into tiles and runs them. A tile is (batch item, block of rows, group of panels);
// blocks of rows come outside groups, so that the block of A stays in every core's L2 while each
// weight panel enters the L2 of one core only.
#include <xmmintrin.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/eltwise/rows.h"
#include "kernels/jit/panels.h"
#include "kernels/matmul/pairs.h"
#include "kernels/matmul/rows.h"

namespace planck {
namespace {

// Enough tiles for the cores that we meet, and for the last ones of a step to end together.
constexpr int64_t kEnoughTiles = 24;
// Below this many the rows are cut further, although each panel is then read more than once.
constexpr int64_t kFewTiles = 16;
// Windows are gathered again for every group of panels: as few groups as keep a team busy.
constexpr int64_t kGatherTiles = 8;
// Weights that are read once: workers take neighbouring tiles, so that few are enough to end
// together.
constexpr int64_t kStreamTiles = 8;
constexpr int64_t kStreamFloats = 16 << 10;  // of a tile at least, which takes some microseconds
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

int64_t stream_tiles(const MatmulArgs& args) {
  return std::clamp<int64_t>(args.n * args.k / kStreamFloats, 1, kStreamTiles);
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

struct Item {
  const float *a, *b;
  float* c;
  const float* residual;
  EltOperand operands[kEltOperands];
};

Item item_of(const MatmulArgs& args, int64_t index) {
  Item item{args.a, args.b, args.c, args.epilogue.residual, {}};
  std::ranges::copy(args.epilogue.operands, item.operands);
  const int operands = args.epilogue.program != nullptr ? args.epilogue.program->operands : 0;
  for (int axis = args.batch_rank - 1; axis >= 0; --axis) {
    const MatmulBatch& batch = args.batch[axis];
    const int64_t at = index % batch.extent;
    index /= batch.extent;
    item.a += at * batch.a;
    item.b += at * batch.b;
    item.c += at * batch.c;
    if (item.residual != nullptr) item.residual += at * batch.residual;
    for (int i = 1; i < operands; ++i) item.operands[i].advance(at * batch.operands[i]);
  }
  return item;
}

// Whether workers keep to neighbouring tiles: to their part of the weights, and to their rows where
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

// The tile that this worker is likely to take next: tickets go round.
int64_t tile_after(const MatmulArgs& args, int64_t tile, const Worker& worker) {
  return tile + (args.plan.along ? 1 : worker.count);
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
  const Item item = item_of(args, tile / plan.m_blocks);
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
    const Item item = item_of(args, next / plan.n_groups / plan.m_blocks);
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

// What the last K block does with its sums.
int64_t last_flags(const MatmulArgs& args) {
  const MatmulArgs::Plan& plan = args.plan;
  int64_t flags = 0;
  if (args.epilogue.relu || plan.relu) flags |= jit::kRelu;
  if (plan.gelu) flags |= jit::kGelu;
  if (plan.sigmoid) flags |= jit::kSigmoid;
  if (plan.epilogue) flags |= jit::kEpilogue;
  return flags;
}

// Streaming kernels take C that begins at a line.
const jit::GemmTile& tile_for(const MatmulArgs& args, const jit::GemmBlock& block) {
  const bool at_line = reinterpret_cast<uintptr_t>(block.call.c) % 64 == 0;
  return args.plan.streaming.rows > 0 && at_line ? args.plan.streaming : args.plan.tile;
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

struct Area {
  int64_t row, column, rows, columns;
};

// Where the floats of a tile's C lie.
struct TileC {
  float* first;
  int64_t stride;
};

TileC c_of(const MatmulArgs& args, const Item& item, const Area& area, const Worker& worker) {
  if (args.epilogue.bytes == nullptr) {
    return {item.c + area.row * args.c_stride + area.column, args.c_stride};
  }
  return {reinterpret_cast<float*>(worker.scratch) + args.plan.c_offset, args.plan.c_pitch};
}

void run_program(const MatmulArgs& args, const Item& item, const Area& area, const TileC& c) {
  const MatmulEpilogue& epilogue = args.epilogue;
  if (args.plan.strip == nullptr) return;
  EltOperand operands[kEltOperands];
  operands[0] = {c.first, c.stride, 1};
  for (int i = 1; i < epilogue.program->operands; ++i) {
    const EltOperand& whole = item.operands[i];
    operands[i] = whole;
    operands[i].advance(area.row * whole.row_stride + area.column * whole.column_stride);
  }
  EltStrip strip{operands, c.first, c.stride, area.rows, area.columns};
  if (epilogue.bytes != nullptr) {
    const int64_t place = area.row * epilogue.bytes_stride + area.column;
    strip.out = static_cast<std::byte*>(epilogue.bytes) + place;
    strip.out_row_stride = epilogue.bytes_stride;
    strip.out_type = epilogue.bytes_type;
  }
  const bool alone = epilogue.program->operands == 1 && epilogue.bytes == nullptr;
  const int64_t groups = args.c_group > 0 ? area.columns / args.c_group : 1;
  strip.columns /= groups;
  if (alone && c.stride == strip.columns) {  // one run fills vectors better than short rows
    strip.columns *= strip.rows;
    strip.rows = 1;
  }
  args.plan.strip(*epilogue.program, strip);
  for (int64_t group = 1; group < groups; ++group) {
    operands[0].advance(args.c_group_step);
    strip.out = static_cast<float*>(strip.out) + args.c_group_step;
    args.plan.strip(*epilogue.program, strip);
  }
}

jit::GemmBlock block_of(const MatmulArgs& args, const Item& item, const Area& area,
                        const TileC& c) {
  const MatmulEpilogue& epilogue = args.epilogue;
  jit::GemmBlock block;
  block.rows = area.rows;
  block.columns = area.columns;
  block.panel_stride = args.k * jit::panel_floats(args.plan.tile);
  block.call.a = args.windows != nullptr ? item.a : item.a + area.row * args.a_stride;
  block.call.a_stride = args.a_stride;
  block.call.c = c.first;
  block.call.c_stride = c.stride;
  block.call.c_group = args.c_group;
  block.call.c_group_step = args.c_group_step;
  if (epilogue.bias != nullptr) block.call.bias = epilogue.bias + area.column;
  if (item.residual != nullptr) {
    block.call.residual = item.residual + area.row * epilogue.residual_stride + area.column;
    block.call.residual_stride = epilogue.residual_stride;
  }
  block.call.operands = item.operands;
  block.call.row = area.row;
  block.call.column = area.column;
  return block;
}

void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const MatmulArgs*>(raw);
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t group = tile % plan.n_groups;
  const int64_t m_block = tile / plan.n_groups % plan.m_blocks;
  const Item item = item_of(args, tile / plan.n_groups / plan.m_blocks);

  Area area{m_block * args.cut.m_block, group * args.cut.panels * plan.tile.columns, 0, 0};
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

// --- windows read from a band of lines: a tile is some rows of outputs of one image, times panels

bool reaches_over(const WindowSteps& axis) {
  return axis.begin > 0 || (axis.out - 1) * axis.stride + axis.kernel > axis.in;
}

// Windows that begin inside, so that a band is hardly larger than the picture: what a damaged plan
// says is not computed with before.
bool begins_inside(const WindowSteps& axis) {
  return axis.dilation == 1 && axis.begin >= 0 && axis.begin < axis.kernel && axis.out > 0 &&
         axis.out - 1 <= (axis.in + 2 * axis.kernel) / axis.stride;
}

// Without padding the picture itself is a band.
bool lies_in_place(const MatmulWindows& w) {
  const bool runs = w.parts.empty() && (w.x.kernel == 1 || w.dense());
  return runs && w.channel_step == 1 && !reaches_over(w.y) && !reaches_over(w.x);
}

WindowBand band_of(const MatmulArgs& args, int64_t rows) {
  return args.plan.tile.pairs ? pair_band_of(*args.windows, rows) : band_of(*args.windows, rows);
}
int64_t band_bytes(const MatmulArgs& args, int64_t rows) {
  const WindowBand band = band_of(args, rows);
  return checked_mul(checked_mul(band.lines, band.pitch, "lines"), int64_t{sizeof(float)}, "lines");
}
int64_t band_room() { return this_device().l2_bytes / 2; }

// One line of outputs: long ones, such as sequences, would not stay in L2 and make few tiles; short
// ones do not fill a register tile. Both are gathered, and so are windows with gaps between them.
bool fits_band(const MatmulArgs& args) {
  constexpr int64_t kShortest = 8;             // summed elements of one line of taps
  constexpr int64_t kFewest = 6, kMost = 240;  // outputs of a line
  constexpr int64_t kManyLines = 32;           // that may be longer
  const MatmulWindows* w = args.windows;
  if (args.plan.tile.pairs) return true;
  if (w == nullptr || args.batch_rank != 0 || !args.b_packed || !begins_inside(w->x) ||
      !begins_inside(w->y) || w->x.out < kFewest || w->x.kernel * w->channels < kShortest) {
    return false;
  }
  if (lies_in_place(*w)) return true;
  const bool overlap = w->x.stride <= w->x.kernel && w->y.stride <= w->y.kernel;
  return overlap &&
         (w->x.out <= kMost || (w->y.out >= kManyLines && band_bytes(args, 1) <= band_room()));
}

// Equal parts of `count`, the longer ones first.
struct Part {
  int64_t first, count;
};
Part part_of(int64_t count, int64_t parts, int64_t index) {
  const int64_t low = count / parts, longer = count % parts;
  return {index * low + std::min(index, longer), low + (index < longer)};
}

// Few groups, since each makes the band anew; as many as divide the panels equally, if they are
// not many more.
int64_t band_groups(int64_t panels, int64_t blocks, int64_t enough) {
  const int64_t least = std::clamp<int64_t>(ceil_div(enough, blocks), 1, panels);
  for (int64_t groups = least; groups < 2 * least; ++groups) {
    if (panels % groups == 0) return groups;
  }
  return least;
}

// Outputs at the ends of a line, whose windows reach over them.
int64_t count_ends(const MatmulArgs& args) {
  const MatmulArgs::Plan& plan = args.plan;
  return args.windows->x.out - (plan.inner_to - plan.inner_from);
}

// Floats of the windows at the ends of one line.
int64_t floats_of_ends(const MatmulArgs& args) {
  return count_ends(args) * args.windows->x.kernel * args.windows->channels;
}

// A copied band, or a line of zeros and a copy of the ends of lines.
int64_t scratch_of_band(const MatmulArgs& args) {
  const MatmulWindows& w = *args.windows;
  const int64_t rows = args.plan.band_rows;
  if (args.plan.inner_from == args.plan.inner_to) return band_bytes(args, rows);
  const int64_t ends = checked_mul(band_of(w, rows).lines, floats_of_ends(args), "ends of lines");
  const int64_t floats = checked_add(ends, w.x.kernel * w.channels, "ends of lines");
  return checked_mul(floats, int64_t{sizeof(float)}, "ends of lines");
}

// Kernels that take windows by their places read those inside of a line where they lie, if the
// others fit a line of scratch.
void find_inner(MatmulArgs& args) {
  MatmulArgs::Plan& plan = args.plan;
  const WindowSteps& x = args.windows->x;
  if (!plan.scattered || plan.in_place || !args.windows->dense()) return;
  plan.inner_from = std::min(ceil_div(x.begin, x.stride), x.out);
  plan.inner_to = std::clamp(x.in < x.kernel ? 0 : (x.in - x.kernel + x.begin) / x.stride + 1,
                             plan.inner_from, x.out);
  if (floats_of_ends(args) > args.windows->y.step) plan.inner_from = plan.inner_to = 0;
}

// About as many rows of A as a panel's way through L2 pays for, and so many that few lines are
// copied twice; the band takes half of L2 at most.
void cut_bands(MatmulArgs& args) {
  constexpr int64_t kRows = 96, kLines = 4;
  MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const int64_t images = args.m / (w.x.out * w.y.out);
  plan.in_place = !plan.tile.pairs && lies_in_place(w);
  find_inner(args);
  const bool copies = !plan.in_place && plan.inner_from == plan.inner_to;
  const int64_t least = copies && images * w.y.out >= kLines * kFewTiles ? kLines : 1;
  plan.band_rows = std::min(std::max(kRows / w.x.out, least), w.y.out);
  while (plan.band_rows > 1 && copies && band_bytes(args, plan.band_rows) > band_room()) {
    plan.band_rows = ceil_div(plan.band_rows, 2);
  }
  plan.bands = ceil_div(w.y.out, plan.band_rows);
  plan.band_rows = ceil_div(w.y.out, plan.bands);
  if (!plan.in_place) plan.scratch_bytes = round_up(scratch_of_band(args), 64);
  plan.m_blocks = checked_mul(images, plan.bands, "rows of windows");
  plan.n_panels = ceil_div(args.n, plan.tile.columns);
  const int64_t enough = plan.tile.once ? stream_tiles(args) : kGatherTiles;
  plan.n_groups = band_groups(plan.n_panels, std::max<int64_t>(plan.m_blocks, 1), enough);
  args.cut.panels = ceil_div(plan.n_panels, plan.n_groups);
  const int64_t weights = checked_mul(plan.n_panels * jit::panel_floats(plan.tile), args.k);
  plan.keeps_weights =
      plan.n_groups == 1 && weights <= this_device().l2_bytes / int64_t{sizeof(float)} / 4;
}

// Where the windows of a tile are read.
struct Band {
  const float* first;
  int64_t pitch, step;  // floats from line to line and from place to place
  // Not like that: the windows of a line that reach over its ends, `floats` of each line one after
  // the other, and lines that are not in the picture, which are all `zeros`.
  struct Outside {
    int64_t top;  // the first line of the tile, of the picture
    int64_t floats;
    const float *ends, *zeros;
  };
  std::optional<Outside> outside;
};

// The picture in place, behind zeros for what lies above and below it, and a copy of the windows at
// the ends of its lines.
Band band_with_ends(const MatmulArgs& args, const float* picture, const Part& rows, float* to) {
  const MatmulWindows& w = *args.windows;
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t top = rows.first * w.y.stride - w.y.begin;
  const int64_t lines = (rows.count - 1) * w.y.stride + w.y.kernel;
  const int64_t taps = w.x.kernel * w.channels, floats = floats_of_ends(args);
  if (top < 0 || top + lines > w.y.in) std::fill(to, to + taps, 0.0F);
  for (int64_t y = std::max<int64_t>(top, 0); y < std::min(top + lines, w.y.in); ++y) {
    float* at = to + taps + (y - top) * floats;
    for (int64_t x = 0; x < w.x.out; ++x) {
      if (x == plan.inner_from) x = plan.inner_to;
      if (x == w.x.out) break;
      copy_taps(w, picture + y * w.y.step, x * w.x.stride - w.x.begin, at);
      at += taps;
    }
  }
  return {picture, w.y.step, w.channels, Band::Outside{top, floats, to + taps, to}};
}

Band band_for(const MatmulArgs& args, int64_t image, const Part& rows, const Worker& worker) {
  const MatmulWindows& w = *args.windows;
  const float* picture = args.a + image * w.image_step;
  if (args.plan.in_place) {
    return {picture + rows.first * w.y.stride * w.y.step, w.y.step, w.x.step, {}};
  }
  auto* lines = reinterpret_cast<float*>(worker.scratch);
  if (args.plan.inner_from < args.plan.inner_to) {
    return band_with_ends(args, picture, rows, lines);
  }
  const WindowBand band = band_of(args, rows.count);
  if (args.plan.tile.pairs) {
    copy_pair_band(w, band, args.a, image, rows.first, lines);
    return {lines, band.pitch, 2 * w.channels, {}};
  }
  copy_band(w, band, args.a, image, rows.first, lines);
  return {lines, band.pitch, w.channels, {}};
}

// Where the taps of line `line` of the tile lie, for each output of a row.
void places_in_line(const MatmulArgs& args, const Band& band, int64_t line, const float** to) {
  const MatmulWindows& w = *args.windows;
  const int64_t step = w.x.stride * band.step;
  if (!band.outside) {
    const float* at = band.first + line * band.pitch;
    for (int64_t x = 0; x < w.x.out; ++x, at += step) to[x] = at;
    return;
  }
  const int64_t y = band.outside->top + line;
  if (y < 0 || y >= w.y.in) {
    std::fill(to, to + w.x.out, band.outside->zeros);
    return;
  }
  const int64_t from = args.plan.inner_from, until = args.plan.inner_to;
  const float* at = band.first + y * band.pitch + from * step - w.x.begin * band.step;
  for (int64_t x = from; x < until; ++x, at += step) to[x] = at;
  const float* end = band.outside->ends + line * band.outside->floats;
  for (int64_t x = 0; x < w.x.out; ++x) {
    if (x == from) x = until;
    if (x == w.x.out) break;
    to[x] = end;
    end += w.x.kernel * w.channels;
  }
}

// Where the windows of each output begin, for every line of taps.
const float* const* places_of(const MatmulArgs& args, const Band& band, int64_t rows,
                              const Worker& worker) {
  const MatmulWindows& w = *args.windows;
  auto** places = reinterpret_cast<const float**>(worker.scratch + args.plan.places_offset);
  const float** to = places;
  for (int64_t tap = 0; tap < w.y.kernel; ++tap) {
    for (int64_t y = 0; y < rows; ++y, to += w.x.out) {
      places_in_line(args, band, y * w.y.stride + tap * w.y.dilation, to);
    }
  }
  return places;
}

jit::GemmBlock band_block(const MatmulArgs& args, const Area& area, const Band& band,
                          const TileC& c) {
  const MatmulEpilogue& epilogue = args.epilogue;
  const MatmulWindows& w = *args.windows;
  jit::GemmBlock block = block_of(args, {nullptr, args.b, args.c, epilogue.residual, {}}, area, c);
  block.call.operands = epilogue.operands;
  block.call.a = band.first;
  block.call.k = w.x.kernel * w.channels;
  block.call.a_stride = w.x.stride * band.step;
  block.call.lines = w.y.kernel;
  block.call.a_line = args.plan.scattered ? area.rows : w.y.dilation * band.pitch;
  block.call.b = args.b + area.column / args.plan.tile.columns * block.panel_stride;
  block.call.flags = last_flags(args);
  if (args.plan.tile.pairs) block.call.apart = outputs_apart(w);
  return block;
}

// Rows of outputs times one panel: at once or line by line.
void multiply_rows(const MatmulArgs& args, jit::GemmBlock block, const Band& band) {
  const MatmulWindows& w = *args.windows;
  const jit::GemmTile& tile = tile_for(args, block);
  if (block.call.a_places != nullptr) return jit::multiply(tile, block);
  const int64_t lines = block.rows / w.x.out;
  block.rows = args.plan.line;
  block.prefetch_bytes /= lines;
  block.prefetch_then_bytes /= lines;
  for (int64_t y = 0; y < lines; ++y) {
    jit::multiply(tile, block);
    block.call.a += w.y.stride * band.pitch;
    block.call.c += w.x.out * block.call.c_stride;
    block.call.row += w.x.out;
    if (block.call.residual != nullptr) {
      block.call.residual += w.x.out * block.call.residual_stride;
    }
    if (block.prefetch != nullptr) block.prefetch += block.prefetch_bytes / sizeof(float);
    if (block.prefetch_then != nullptr) {
      block.prefetch_then += block.prefetch_then_bytes / sizeof(float);
    }
  }
}

// What most of a line is read from: the picture, or the part of most floats.
WindowPart main_part(const MatmulArgs& args) {
  const MatmulWindows& w = *args.windows;
  if (w.parts.empty()) return {args.a, w.channels, 1, w.image_step, w.y.step, w.x.step};
  const auto floats = [](const WindowPart& part) { return part.y_step / part.repeat; };
  return *std::ranges::max_element(w.parts, {}, floats);
}

// A share, with each panel, of the lines that the next tile reads and this one does not. False
// where there are none.
bool prefetch_lines(const MatmulArgs& args, int64_t tile, int64_t next, const Area& panel,
                    jit::GemmBlock& block) {
  const MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  if (next >= plan.m_blocks) return false;
  struct Lines {
    int64_t image, from, to;
  };
  const auto lines_of = [&](int64_t index) {
    const Part rows = part_of(w.y.out, plan.bands, index % plan.bands);
    const int64_t top = rows.first * w.y.stride - w.y.begin;
    const int64_t end = top + (rows.count - 1) * w.y.stride + (w.y.kernel - 1) * w.y.dilation + 1;
    return Lines{index / plan.bands, std::clamp<int64_t>(top, 0, w.y.in),
                 std::clamp<int64_t>(end, 0, w.y.in)};
  };
  const Lines now = lines_of(tile), then = lines_of(next);
  const int64_t from = now.image == then.image ? std::max(now.to, then.from) : then.from;
  const WindowPart part = main_part(args);
  const int64_t lines = ceil_div(then.to, part.repeat) - from / part.repeat;
  const int64_t share = lines * part.y_step / plan.n_panels;
  if (share <= 0) return false;
  block.prefetch = part.at(then.image, from, 0) + panel.column / plan.tile.columns * share;
  block.prefetch_bytes = share * static_cast<int64_t>(sizeof(float));
  return true;
}

// What the worker reads next: the panel behind this one, or the first of the tile that it is likely
// to take; where all weights stay in L2, the picture.
void prefetch_panel(const MatmulArgs& args, int64_t tile, const Worker& worker, bool last,
                    const Area& panel, jit::GemmBlock& block) {
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t next = tile_after(args, tile, worker);
  if (plan.keeps_weights && args.windows->channel_step == 1 &&
      prefetch_lines(args, tile, next, panel, block))
    return;
  int64_t floats = block.panel_stride;
  if (!last) {
    block.prefetch = block.call.b + floats;
  } else if (next < plan.m_blocks * plan.n_groups) {
    const Part panels = part_of(plan.n_panels, plan.n_groups, next % plan.n_groups);
    block.prefetch = args.b + panels.first * floats;
  } else {
    block.prefetch = args.next.weights;
    floats = std::min(floats, args.next.floats);
  }
  block.prefetch_bytes = floats * int64_t{sizeof(float)};
}

// A share, with each panel, of the residual that the worker reads in its next tile.
void prefetch_residual(const MatmulArgs& args, int64_t tile, const Worker& worker,
                       const Area& panel, jit::GemmBlock& block) {
  const MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const MatmulEpilogue& epilogue = args.epilogue;
  const int64_t next = tile_after(args, tile, worker);
  if (epilogue.residual == nullptr || epilogue.residual_stride != args.n || plan.n_groups > 1 ||
      next >= plan.m_blocks) {
    return;
  }
  const Part rows = part_of(w.y.out, plan.bands, next % plan.bands);
  const int64_t first = (next / plan.bands * w.y.out + rows.first) * w.x.out * args.n;
  const int64_t share = rows.count * w.x.out * args.n / plan.n_panels;
  block.prefetch_then = epilogue.residual + first + panel.column / plan.tile.columns * share;
  block.prefetch_then_bytes = share * static_cast<int64_t>(sizeof(float));
}

void run_band_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const MatmulArgs*>(raw);
  const MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const int64_t block = tile / plan.n_groups, image = block / plan.bands;
  const Part rows = part_of(w.y.out, plan.bands, block % plan.bands);
  const Part panels = part_of(plan.n_panels, plan.n_groups, tile % plan.n_groups);
  const Band band = band_for(args, image, rows, worker);
  const float* const* places = plan.scattered ? places_of(args, band, rows.count, worker) : nullptr;
  const int64_t width = plan.tile.columns, column = panels.first * width;
  const Area all{(image * w.y.out + rows.first) * w.x.out, column, rows.count * w.x.out,
                 std::min(panels.count * width, args.n - column)};
  const TileC c = c_of(args, item_of(args, 0), all, worker);
  for (int64_t at = 0; at < all.columns; at += width) {
    const Area panel{all.row, column + at, all.rows, std::min(width, all.columns - at)};
    jit::GemmBlock product = band_block(args, panel, band, {c.first + at, c.stride});
    product.call.a_places = places;
    prefetch_panel(args, tile, worker, at + width >= all.columns, panel, product);
    prefetch_residual(args, tile, worker, panel, product);
    multiply_rows(args, product, band);
  }
  if (plan.streaming.rows > 0) _mm_sfence();
  run_program(args, item_of(args, 0), all, c);
}

// Room for C of one tile behind all else in scratch.
void add_c(MatmulArgs& args, int64_t rows) {
  MatmulArgs::Plan& plan = args.plan;
  constexpr int64_t kPad = 16;
  plan.c_pitch = std::min(args.cut.panels * plan.tile.columns, round_up(args.n, kPad)) + kPad;
  plan.c_offset = plan.scratch_bytes / static_cast<int64_t>(sizeof(float));
  const int64_t floats = checked_mul(rows, plan.c_pitch, "a tile of C");
  plan.scratch_bytes += round_up(checked_mul(floats, sizeof(float), "a tile of C"), 64);
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

// C of more bytes than the caches hold is written past them: its lines need not be read before.
bool streams(const MatmulArgs& args) {
  const MatmulArgs::Plan& plan = args.plan;
  const auto lines = [](int64_t floats) { return floats % kLine == 0; };
  const int64_t row = checked_mul(args.n, int64_t{sizeof(float)}, "bytes of C");
  const int64_t bytes =
      checked_mul(checked_mul(args.m, plan.items, "rows of C"), row, "bytes of C");
  const bool at_once = plan.bands > 0 || args.cut.k_block >= args.k;
  return args.epilogue.bytes == nullptr && plan.strip == nullptr && at_once && !plan.tile.pairs &&
         lines(args.c_stride) && lines(plan.tile.columns) && args.n % plan.tile.columns == 0 &&
         bytes > this_device().l3_bytes;
}

// Whether the operands of the program are the same for each row of C.
bool only_columns(const MatmulArgs& args) {
  for (int i = 1; i < args.epilogue.program->operands; ++i) {
    if (args.epilogue.operands[i].row_stride != 0) return false;
  }
  return true;
}

// The kernels for such blocks, and who runs the program: they, by a function of theirs or by code
// made for it, or else a pass over each tile of C.
void plan_kernels(const MatmulRow& row, MatmulArgs& args, const jit::GemmSource& source,
                  const jit::GemmBlocks& blocks) {
  const EltProgram* program = args.epilogue.program;
  const bool made = row.isa != Isa::portable && row.lanes != Lanes::rows;
  MatmulArgs::Plan& plan = args.plan;
  const jit::GemmTile plain = plan.tile;
  jit::Epilogue epilogue;
  if (args.epilogue.bytes != nullptr) {  // kernels themselves store floats
    plan.strip = eltwise_strip(row.isa);
  } else if (program != nullptr) {
    plan.relu = is_only(*program, EltOp::relu);
    plan.gelu = made && is_only(*program, EltOp::gelu_erf);
    plan.sigmoid = row.lanes == Lanes::rows && is_only(*program, EltOp::sigmoid);
    const bool flag = plan.relu || plan.gelu || plan.sigmoid;
    if (made && !flag && (!plan.tile.pairs || only_columns(args))) {
      epilogue = jit::generated(*program, args.epilogue.operands).value_or(jit::Epilogue{});
    }
    plan.epilogue =
        !epilogue.code.empty() && jit::specialize(plan.tile, row.isa, source, epilogue, blocks);
    if (!plan.epilogue && !flag) plan.strip = eltwise_strip(row.isa);
  }
  const bool part = jit::knows_columns(row.isa) && args.n % plan.tile.columns != 0;
  const bool special = source.lines || source.scattered || part || plan.tile.pairs;
  if (made && special && !plan.epilogue) jit::specialize(plan.tile, row.isa, source, {}, blocks);
  if (!made || !streams(args)) return;
  jit::GemmTile streaming = plain;
  const jit::GemmSource to_memory{source.lines, source.scattered, true};
  if (!plan.epilogue) epilogue = {};
  if (jit::specialize(streaming, row.isa, to_memory, epilogue, blocks)) plan.streaming = streaming;
}

Job plan_bands(const MatmulRow& row, MatmulArgs& args) {
  MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const bool fills = w.x.out % row.tile_m == 0 && lies_in_place(w);
  plan.scattered = jit::takes_scattered(plan.tile, row.isa, args.n) && !fills;
  cut_bands(args);
  const int64_t rows = checked_mul(plan.band_rows, w.x.out, "outputs of a band");
  plan.line = plan.tile.pairs ? pairs_of_line(w) : w.x.out;
  jit::GemmBlocks blocks{{plan.line, 0}, args.n};
  if (plan.scattered) {
    plan.places_offset = plan.scratch_bytes;
    const int64_t places = checked_mul(rows, w.y.kernel, "places");
    plan.scratch_bytes += round_up(checked_mul(places, int64_t{sizeof(float*)}, "places"), 64);
    blocks = {{rows, w.y.out / plan.bands * w.x.out}, args.n};
  }
  plan_kernels(row, args, {w.y.kernel > 1, plan.scattered}, blocks);
  if (args.epilogue.bytes != nullptr) add_c(args, rows);
  return {run_band_tile, &args, checked_mul(plan.m_blocks, plan.n_groups, "tiles"), plan.along};
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
