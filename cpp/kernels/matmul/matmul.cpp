// Cuts a product into tiles and runs them. A tile is (batch item, block of rows, group of panels);
// blocks of rows come outside groups, so that the block of A stays in every core's L2 while each
// weight panel enters the L2 of one core only.
#include <algorithm>
#include <cstdint>
#include <optional>

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
// Weights that are read once: workers take neighbouring tiles, so that few are enough to end
// together.
constexpr int64_t kStreamTiles = 8;
constexpr int64_t kStreamFloats = 16 << 10;  // of a tile at least, which takes some microseconds
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

int64_t stream_tiles(const MatmulArgs& args) {
  return std::clamp<int64_t>(args.n * args.k / kStreamFloats, 1, kStreamTiles);
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
  const bool runs = w.x.kernel == 1 || w.x.step == w.channels;
  return runs && !reaches_over(w.y) && !reaches_over(w.x);
}

int64_t band_bytes(const MatmulWindows& w, int64_t rows) {
  const WindowBand band = band_of(w, rows);
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
  if (w == nullptr || args.batch_rank != 0 || !args.b_packed || !begins_inside(w->x) ||
      !begins_inside(w->y) || w->x.out < kFewest || w->x.kernel * w->channels < kShortest) {
    return false;
  }
  if (lies_in_place(*w)) return true;
  const bool overlap = w->x.stride <= w->x.kernel && w->y.stride <= w->y.kernel;
  return overlap &&
         (w->x.out <= kMost || (w->y.out >= kManyLines && band_bytes(*w, 1) <= band_room()));
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

// A copied band, or a copy of the ends of lines with the pitch of the picture.
int64_t scratch_of_band(const MatmulArgs& args) {
  const MatmulWindows& w = *args.windows;
  const int64_t rows = args.plan.band_rows, bytes = band_bytes(w, rows);
  if (args.plan.inner_from == args.plan.inner_to) return bytes;
  const int64_t floats = checked_mul(band_of(w, rows).lines, w.y.step, "ends of lines");
  return std::max(bytes, checked_mul(floats, int64_t{sizeof(float)}, "ends of lines"));
}

// Kernels that take windows by their places read those inside of a line where they lie, if the
// others fit a line of scratch.
void find_inner(MatmulArgs& args) {
  MatmulArgs::Plan& plan = args.plan;
  const WindowSteps& x = args.windows->x;
  if (!plan.scattered || plan.in_place || x.step != args.windows->channels) return;
  plan.inner_from = std::min(ceil_div(x.begin, x.stride), x.out);
  plan.inner_to = std::clamp(x.in < x.kernel ? 0 : (x.in - x.kernel + x.begin) / x.stride + 1,
                             plan.inner_from, x.out);
  const int64_t ends = count_ends(args) * x.kernel * args.windows->channels;
  if (ends > args.windows->y.step) plan.inner_from = plan.inner_to = 0;
}

// About as many rows of A as a panel's way through L2 pays for, and so many that few lines are
// copied twice; the band takes half of L2 at most.
void cut_bands(MatmulArgs& args) {
  constexpr int64_t kRows = 96, kLines = 4;
  MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const int64_t images = args.m / (w.x.out * w.y.out);
  plan.in_place = lies_in_place(w);
  find_inner(args);
  const bool copies = !plan.in_place && plan.inner_from == plan.inner_to;
  const int64_t least = copies && images * w.y.out >= kLines * kFewTiles ? kLines : 1;
  plan.band_rows = std::min(std::max(kRows / w.x.out, least), w.y.out);
  while (plan.band_rows > 1 && copies && band_bytes(w, plan.band_rows) > band_room()) {
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
}

// Where the windows of a tile are read.
struct Band {
  const float* first;
  int64_t pitch, step;  // floats from line to line and from place to place
  // Where the windows of a line that reach over its ends lie, in floats from `first`, if not like
  // the others.
  std::optional<int64_t> ends;
};

// The picture in place, and a copy of the windows at the ends of its lines, with its pitch.
Band band_with_ends(const MatmulArgs& args, const float* picture, const Part& rows, float* to) {
  const MatmulWindows& w = *args.windows;
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t top = rows.first * w.y.stride - w.y.begin;
  const int64_t lines = (rows.count - 1) * w.y.stride + w.y.kernel;
  for (int64_t line = 0; line < lines; ++line) {
    float* at = to + line * w.y.step;
    for (int64_t x = 0; x < w.x.out; ++x) {
      if (x == plan.inner_from) x = plan.inner_to;
      if (x == w.x.out) break;
      copy_taps(w, picture + (top + line) * w.y.step, x * w.x.stride - w.x.begin, at);
      at += w.x.kernel * w.channels;
    }
  }
  const float* first = picture + top * w.y.step - w.x.begin * w.channels;  // perhaps outside
  const auto address = [](const float* p) { return reinterpret_cast<intptr_t>(p); };
  const auto float_bytes = static_cast<intptr_t>(sizeof(float));
  return {first, w.y.step, w.channels, (address(to) - address(first)) / float_bytes};
}

Band band_for(const MatmulArgs& args, int64_t image, const Part& rows, const Worker& worker) {
  const MatmulWindows& w = *args.windows;
  const float* picture = args.a + image * w.image_step;
  if (args.plan.in_place) {
    return {picture + rows.first * w.y.stride * w.y.step, w.y.step, w.x.step, {}};
  }
  auto* lines = reinterpret_cast<float*>(worker.scratch);
  const int64_t top = rows.first * w.y.stride - w.y.begin;
  const int64_t bottom = top + (rows.count - 1) * w.y.stride + w.y.kernel;
  if (args.plan.inner_from < args.plan.inner_to && top >= 0 && bottom <= w.y.in) {
    return band_with_ends(args, picture, rows, lines);
  }
  const WindowBand band = band_of(w, rows.count);
  copy_band(w, band, picture, rows.first, lines);
  return {lines, band.pitch, w.channels, {}};
}

// Where the windows of each output begin.
const int64_t* places_of(const MatmulArgs& args, const Band& band, int64_t rows,
                         const Worker& worker) {
  const MatmulWindows& w = *args.windows;
  const MatmulArgs::Plan& plan = args.plan;
  auto* places = reinterpret_cast<int64_t*>(worker.scratch + plan.places_offset);
  int64_t* to = places;
  for (int64_t y = 0; y < rows; ++y) {
    const int64_t line = y * w.y.stride * band.pitch;
    for (int64_t x = 0; x < w.x.out; ++x) *to++ = line + x * w.x.stride * band.step;
    if (!band.ends) continue;
    int64_t end = line + *band.ends;
    for (int64_t x = 0; x < w.x.out; ++x) {
      if (x == plan.inner_from) x = plan.inner_to;
      if (x == w.x.out) break;
      to[x - w.x.out] = end;
      end += w.x.kernel * w.channels;
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
  block.call.a_line = w.y.dilation * band.pitch;
  block.call.b = args.b + area.column * args.k;
  block.call.flags = last_flags(args);
  return block;
}

// Rows of outputs times one panel: at once or line by line.
void multiply_rows(const MatmulArgs& args, jit::GemmBlock block, const Band& band) {
  const MatmulWindows& w = *args.windows;
  if (block.call.a_places != nullptr) return jit::multiply(args.plan.tile, block);
  const int64_t lines = block.rows / w.x.out;
  block.rows = w.x.out;
  block.prefetch_bytes /= lines;
  for (int64_t y = 0; y < lines; ++y) {
    jit::multiply(args.plan.tile, block);
    block.call.a += w.y.stride * band.pitch;
    block.call.c += w.x.out * block.call.c_stride;
    block.call.row += w.x.out;
    if (block.call.residual != nullptr) {
      block.call.residual += w.x.out * block.call.residual_stride;
    }
    if (block.prefetch != nullptr) block.prefetch += block.prefetch_bytes / sizeof(float);
  }
}

// What the worker reads next: the panel behind this one, or the first of the tile that it is likely
// to take.
void prefetch_panel(const MatmulArgs& args, int64_t tile, const Worker& worker, bool last,
                    jit::GemmBlock& block) {
  const MatmulArgs::Plan& plan = args.plan;
  const int64_t next = tile + worker.count;
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

void run_band_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const MatmulArgs*>(raw);
  const MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const int64_t block = tile / plan.n_groups, image = block / plan.bands;
  const Part rows = part_of(w.y.out, plan.bands, block % plan.bands);
  const Part panels = part_of(plan.n_panels, plan.n_groups, tile % plan.n_groups);
  const Band band = band_for(args, image, rows, worker);
  const int64_t* places = plan.scattered ? places_of(args, band, rows.count, worker) : nullptr;
  const int64_t width = plan.tile.columns, column = panels.first * width;
  const Area all{(image * w.y.out + rows.first) * w.x.out, column, rows.count * w.x.out,
                 std::min(panels.count * width, args.n - column)};
  const TileC c = c_of(args, item_of(args, 0), all, worker);
  for (int64_t at = 0; at < all.columns; at += width) {
    const Area panel{all.row, column + at, all.rows, std::min(width, all.columns - at)};
    jit::GemmBlock product = band_block(args, panel, band, {c.first + at, c.stride});
    product.call.a_places = places;
    prefetch_panel(args, tile, worker, at + width >= all.columns, product);
    multiply_rows(args, product, band);
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
void plan_kernels(const MatmulRow& row, MatmulArgs& args, const jit::GemmSource& source,
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
        !epilogue.code.empty() && jit::specialize(plan.tile, row.isa, source, epilogue, blocks);
    if (!plan.epilogue && !flag) plan.strip = eltwise_strip(row.isa);
  }
  const bool part = jit::knows_columns(row.isa) && args.n % plan.tile.columns != 0;
  const bool special = source.lines || source.scattered || part;
  if (made && special && !plan.epilogue) jit::specialize(plan.tile, row.isa, source, {}, blocks);
}

Job plan_bands(const MatmulRow& row, MatmulArgs& args) {
  MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const bool fills = w.x.out % row.tile_m == 0 && lies_in_place(w);
  plan.scattered = jit::takes_scattered(plan.tile, row.isa, args.n) && !fills;
  cut_bands(args);
  const int64_t rows = checked_mul(plan.band_rows, w.x.out, "outputs of a band");
  jit::GemmBlocks blocks{{w.x.out, 0}, args.n};
  if (plan.scattered) {
    plan.places_offset = plan.scratch_bytes;
    plan.scratch_bytes += round_up(checked_mul(rows, int64_t{sizeof(int64_t)}, "places"), 64);
    blocks = {{rows, w.y.out / plan.bands * w.x.out}, args.n};
  }
  plan_kernels(row, args, {w.y.kernel > 1, plan.scattered}, blocks);
  if (args.epilogue.bytes != nullptr) add_c(args, rows);
  const int64_t tiles = checked_mul(plan.m_blocks, plan.n_groups, "tiles");
  return {run_band_tile, &args, tiles, plan.tile.once};
}

}  // namespace

namespace {

jit::Stream stream_of(const MatmulRow& row, const MatmulArgs& args) {
  if (!args.b_packed || args.m > std::min<int64_t>(row.tile_m, kStreamRows)) {
    return jit::Stream::none;
  }
  const int64_t most = this_device().l1_bytes / 4 / int64_t{sizeof(float)};
  return args.k <= most / std::max<int64_t>(args.m, 1) ? jit::Stream::alone : jit::Stream::together;
}

}  // namespace

Job plan_matmul(const MatmulRow& row, MatmulArgs& args) {
  check(args);
  MatmulArgs::Plan& plan = args.plan;
  plan = {};
  plan.tile = jit::gemm_tile(row.isa, row.tile_m, row.tile_n, stream_of(row, args));
  plan.items = items(args);
  if (fits_band(args) && args.m > 0 && args.n > 0) return plan_bands(row, args);
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
  plan_kernels(row, args, {}, {{std::min(args.m, args.cut.m_block), last_rows}, args.n});
  if (args.epilogue.bytes != nullptr) add_c(args, args.cut.m_block);
  const int64_t tiles = checked_mul(plan.n_groups, plan.m_blocks, "tiles");
  return {run_tile, &args, checked_mul(tiles, plan.items, "tiles"), plan.tile.once};
}

}  // namespace planck
