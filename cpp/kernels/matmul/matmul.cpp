// Cuts a product into tiles and runs them. A tile is (batch item, block of rows, group of panels);
// blocks of rows come outside groups, so that the block of A stays in every core's L2 while each
// weight panel enters the L2 of one core only.
#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/eltwise/rows.h"
#include "kernels/jit/panels.h"
#include "kernels/matmul/rows.h"

namespace planck {
namespace {

// Enough tiles for the cores that we meet, and for the last ones of a step to end together.
constexpr int64_t kEnoughTiles = 24;
// Below this many the rows are cut further, although each panel is then read more than once.
constexpr int64_t kFewTiles = 16;
// Windows are gathered again for every group of panels: as few groups as keep a team busy.
constexpr int64_t kGatherTiles = 8;
// Weights that are read once come at the speed of memory, the faster the longer they go on: fewer
// tiles, which are pieces of hundreds of KB.
constexpr int64_t kStreamTiles = 8;
// Up to so many rows memory is slower than the sums, where B does not come from a cache.
constexpr int64_t kStreamRows = 8;
// Much more work than taking a ticket.
constexpr int64_t kTileProducts = 1 << 20;

int64_t items(const MatmulArgs& args) {
  int64_t count = 1;
  for (int axis = 0; axis < args.batch_rank; ++axis) {
    count = checked_mul(count, args.batch[axis].extent, "batch of a product");
  }
  return count;
}

// The longest K whose block of A shares L2 with the panel in use and the panel on its way.
int64_t longest_k(int64_t rows, int64_t columns, const Device& device) {
  const int64_t floats = device.l2_bytes * 31 / 32 / 4;
  return std::max<int64_t>(floats / (rows + 2 * columns), 128);
}

MatmulCut choose_cut(const MatmulArgs& args, int64_t count, const Device& device) {
  MatmulCut cut = args.cut;
  const jit::GemmTile& tile = args.plan.tile;
  const int64_t a_floats = device.l2_bytes * 3 / 4 / 4;
  const int64_t k = std::max<int64_t>(args.k, 1);
  if (cut.k_block == 0) {
    // Blocks of 128 rows are enough to reuse a panel; longer K than fits with them is cut evenly.
    const int64_t rows = std::min<int64_t>(args.m, 128);
    const int64_t blocks = ceil_div(k, longest_k(rows, tile.columns, device));
    cut.k_block = round_up(ceil_div(k, blocks), 4);
  }
  if (cut.m_block == 0) {
    const int64_t fits = std::max<int64_t>(a_floats / cut.k_block, tile.rows);
    const int64_t most = std::clamp<int64_t>(fits, 128, 240);
    cut.m_block =
        std::max<int64_t>(1, ceil_div(args.m, std::max<int64_t>(1, ceil_div(args.m, most))));
  }
  const int64_t n_panels = ceil_div(args.n, tile.columns);
  // Few columns: cut the rows further, down to a few register tiles.
  while (cut.m_block > int64_t{4} * tile.rows && args.cut.m_block == 0 &&
         count * n_panels * ceil_div(args.m, cut.m_block) < kFewTiles) {
    cut.m_block = ceil_div(cut.m_block, 2);
  }
  if (cut.panels == 0) {
    const int64_t work = std::max<int64_t>(1, cut.m_block * tile.columns * k);
    const int64_t others = count * ceil_div(args.m, std::max<int64_t>(1, cut.m_block));
    const bool gathers = args.windows != nullptr;
    const int64_t enough = tile.once ? kStreamTiles : gathers ? kGatherTiles : kEnoughTiles;
    const int64_t most = std::max<int64_t>(1, n_panels * others / enough);
    const int64_t least = gathers || tile.once ? most : ceil_div(kTileProducts, work);
    const int64_t wide =
        cut.m_block <= tile.rows ? tile.panels[std::max<int64_t>(1, cut.m_block)] : 1;
    cut.panels = round_up(std::clamp<int64_t>(least, 1, most), wide);
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

// What this worker is likely to read next: tickets go round, so it is `count` tiles ahead; behind
// the last tile, the same distance into the next step's weights.
void prefetch_next(const MatmulArgs& args, int64_t tile, const Worker& worker,
                   jit::GemmBlock& block) {
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t tiles = plan.items * plan.m_blocks * plan.n_groups;
  const int64_t next = tile + worker.count;
  const int64_t floats = args.cut.panels * block.panel_stride;
  if (next >= tiles) {
    const int64_t from = std::min((next - tiles) * floats, args.next.floats);
    block.prefetch = args.next.weights + from;
    block.prefetch_bytes = std::min(floats, args.next.floats - from) * int64_t{sizeof(float)};
  } else if (args.b_packed) {
    const int64_t first = next % plan.n_groups * args.cut.panels;
    const int64_t panels = std::min(args.cut.panels, plan.n_panels - first);
    const Item item = item_of(args, next / plan.n_groups / plan.m_blocks);
    block.prefetch = item.b + first * block.panel_stride;
    block.prefetch_bytes = panels * block.panel_stride * int64_t{sizeof(float)};
  }
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
  if (plan.epilogue) flags |= jit::kEpilogue;
  return flags;
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
    jit::multiply(args.plan.tile, block);
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
  args.plan.strip(*epilogue.program, strip);
}

jit::GemmBlock block_of(const MatmulArgs& args, const Item& item, const Area& area,
                        const TileC& c) {
  const MatmulEpilogue& epilogue = args.epilogue;
  jit::GemmBlock block;
  block.rows = area.rows;
  block.columns = area.columns;
  block.panel_stride = args.k * args.plan.tile.columns;
  block.call.a = args.windows != nullptr ? item.a : item.a + area.row * args.a_stride;
  block.call.a_stride = args.a_stride;
  block.call.c = c.first;
  block.call.c_stride = c.stride;
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
  // This worker's first tile of the step; what it gathers is near.
  block.a_is_far = tile < worker.count && args.windows == nullptr;
  multiply_blocks(args, block, area.row, worker);
  run_program(args, item, area, c);
}

// --- windows read from a band of lines: a tile is some rows of outputs of one image, times panels

// Windows that overlap and begin inside, so that a band is hardly larger than the picture: what a
// damaged plan says is not computed with before.
bool overlaps(const WindowSteps& axis) {
  return axis.dilation == 1 && axis.stride <= axis.kernel && axis.begin < axis.kernel &&
         axis.out > 0 && axis.out - 1 <= (axis.in + 2 * axis.kernel) / axis.stride;
}

int64_t band_bytes(const MatmulWindows& w, int64_t rows) {
  const WindowBand band = band_of(w, rows);
  return checked_mul(checked_mul(band.lines, band.pitch, "lines"), int64_t{sizeof(float)}, "lines");
}
int64_t band_room() { return this_device().l2_bytes / 2; }

// One line of outputs: long ones, such as sequences, would not stay in L2 and make few tiles; short
// ones do not fill a register tile. Both are gathered.
bool fits_band(const MatmulArgs& args) {
  constexpr int64_t kShortest = 8;             // summed elements of one line of taps
  constexpr int64_t kFewest = 6, kMost = 240;  // outputs of a line
  constexpr int64_t kManyLines = 32;           // that may be longer
  const MatmulWindows* w = args.windows;
  if (w == nullptr || args.batch_rank != 0 || !args.b_packed || !overlaps(w->x) ||
      !overlaps(w->y) || w->x.out < kFewest || w->x.kernel * w->channels < kShortest) {
    return false;
  }
  return w->x.out <= kMost || (w->y.out >= kManyLines && band_bytes(*w, 1) <= band_room());
}

// About as many rows of A as a panel's way through L2 pays for; the band takes half of L2 at most.
void cut_bands(MatmulArgs& args) {
  constexpr int64_t kRows = 96;
  MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  plan.band_rows = std::clamp<int64_t>(kRows / w.x.out, 1, w.y.out);
  while (plan.band_rows > 1 && band_bytes(w, plan.band_rows) > band_room()) {
    plan.band_rows = ceil_div(plan.band_rows, 2);
  }
  plan.scratch_bytes = round_up(band_bytes(w, plan.band_rows), 64);
  const int64_t images = args.m / (w.x.out * w.y.out);
  plan.m_blocks = checked_mul(images, ceil_div(w.y.out, plan.band_rows), "rows of windows");
  plan.n_panels = ceil_div(args.n, plan.tile.columns);
  args.cut.panels =
      std::clamp<int64_t>(plan.n_panels * plan.m_blocks / kGatherTiles, 1, plan.n_panels);
  plan.n_groups = ceil_div(plan.n_panels, args.cut.panels);
}

// One row of outputs, one panel, all taps.
void multiply_line(const MatmulArgs& args, const Area& line, const float* a, int64_t pitch,
                   const TileC& c) {
  const MatmulEpilogue& epilogue = args.epilogue;
  const MatmulWindows& w = *args.windows;
  jit::GemmBlock block = block_of(args, {a, args.b, args.c, epilogue.residual, {}}, line, c);
  block.call.operands = epilogue.operands;
  block.call.k = w.x.kernel * w.channels;
  block.call.a_stride = w.x.stride * w.channels;
  block.call.lines = w.y.kernel;
  block.call.a_line = w.y.dilation * pitch;
  block.call.b = args.b + line.column * args.k;
  block.call.flags = last_flags(args);
  jit::multiply(args.plan.tile, block);
}

void run_band_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const MatmulArgs*>(raw);
  const MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const int64_t blocks = ceil_div(w.y.out, plan.band_rows);  // of an image
  const int64_t block = tile / plan.n_groups, image = block / blocks;
  const int64_t first = block % blocks * plan.band_rows;
  const int64_t rows = std::min(plan.band_rows, w.y.out - first);
  const WindowBand band = band_of(w, rows);
  auto* lines = reinterpret_cast<float*>(worker.scratch);
  copy_band(w, band, args.a + image * w.image_step, first, lines);
  const int64_t column = tile % plan.n_groups * args.cut.panels * plan.tile.columns;
  const int64_t columns = std::min(args.cut.panels * plan.tile.columns, args.n - column);
  const Area all{(image * w.y.out + first) * w.x.out, column, rows * w.x.out, columns};
  const TileC c = c_of(args, item_of(args, 0), all, worker);
  for (int64_t at = 0; at < columns; at += plan.tile.columns) {
    for (int64_t row = 0; row < rows; ++row) {
      const Area line{all.row + row * w.x.out, column + at, w.x.out,
                      std::min<int64_t>(plan.tile.columns, columns - at)};
      multiply_line(args, line, lines + row * w.y.stride * band.pitch, band.pitch,
                    {c.first + row * w.x.out * c.stride + at, c.stride});
    }
  }
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

void check(const MatmulArgs& args) {
  if (args.m < 0 || args.n < 0 || args.k < 0 || args.batch_rank < 0 ||
      args.batch_rank > kMaxMatmulBatch) {
    throw InternalError("a product of ", args.m, " x ", args.n, " x ", args.k, " with ",
                        args.batch_rank, " batch axes");
  }
  if (args.epilogue.bytes != nullptr && (args.epilogue.program == nullptr || args.batch_rank > 0)) {
    throw InternalError("a product in bytes without a program, or of a batch");
  }
  if (args.windows != nullptr && args.windows->k() != args.k) {
    throw InternalError("windows of ", args.windows->k(), " elements for a product over ", args.k);
  }
}

// The kernels for such blocks, and who runs the program: they, by a function of theirs or by code
// made for it, or else a pass over each tile of C.
void plan_kernels(const MatmulRow& row, MatmulArgs& args, bool lines,
                  const jit::GemmBlocks& blocks) {
  const EltProgram* program = args.epilogue.program;
  const bool made = row.isa != Isa::portable;
  MatmulArgs::Plan& plan = args.plan;
  jit::Epilogue epilogue;
  if (args.epilogue.bytes != nullptr) {  // kernels themselves store floats
    plan.strip = eltwise_strip(row.isa);
  } else if (program != nullptr) {
    plan.relu = is_only(*program, EltOp::relu);
    plan.gelu = made && is_only(*program, EltOp::gelu_erf);
    const bool flag = plan.relu || plan.gelu;
    if (made && !flag) {
      epilogue = jit::generated(*program, args.epilogue.operands).value_or(jit::Epilogue{});
    }
    plan.epilogue =
        !epilogue.code.empty() && jit::specialize(plan.tile, row.isa, lines, epilogue, blocks);
    if (!plan.epilogue && !flag) plan.strip = eltwise_strip(row.isa);
  }
  if (made && lines && !plan.epilogue) jit::specialize(plan.tile, row.isa, true, {}, blocks);
}

}  // namespace

Job plan_matmul(const MatmulRow& row, MatmulArgs& args) {
  check(args);
  MatmulArgs::Plan& plan = args.plan;
  plan = {};
  const bool once = args.b_packed && args.m <= std::min<int64_t>(row.tile_m, kStreamRows);
  plan.tile = jit::gemm_tile(row.isa, row.tile_m, row.tile_n, once);
  plan.items = items(args);
  if (fits_band(args) && args.m > 0 && args.n > 0) {
    cut_bands(args);
    plan_kernels(row, args, true, {{args.windows->x.out, 0}, args.n});
    if (args.epilogue.bytes != nullptr) {
      add_c(args, checked_mul(plan.band_rows, args.windows->x.out, "a tile of C"));
    }
    return {run_band_tile, &args, checked_mul(plan.m_blocks, plan.n_groups, "tiles")};
  }
  args.cut = choose_cut(args, plan.items, this_device());
  plan.n_panels = ceil_div(args.n, row.tile_n);
  plan.n_groups = ceil_div(plan.n_panels, args.cut.panels);
  plan.m_blocks = ceil_div(args.m, args.cut.m_block);
  if (!args.b_packed) {
    const int64_t floats = checked_mul(args.cut.panels * row.tile_n, args.k, "packed panels");
    plan.scratch_bytes = round_up(checked_mul(floats, sizeof(float), "packed panels"), 64);
  }
  if (args.windows != nullptr) add_gather(args);
  const int64_t last_rows = args.m - (plan.m_blocks - 1) * args.cut.m_block;
  plan_kernels(row, args, false, {{std::min(args.m, args.cut.m_block), last_rows}, args.n});
  if (args.epilogue.bytes != nullptr) add_c(args, args.cut.m_block);
  const int64_t tiles = checked_mul(plan.n_groups, plan.m_blocks, "tiles");
  return {run_tile, &args, checked_mul(tiles, plan.items, "tiles")};
}

}  // namespace planck
