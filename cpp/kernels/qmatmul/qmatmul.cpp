// Cuts an integer product into tiles and runs them, as kernels/matmul does: a tile is (batch item,
// block of rows, group of panels); blocks of rows come outside groups, so that the block of A stays
// in every core's L2 while each weight panel enters the L2 of one core only. K is never cut: the
// sums stay in registers, over all lines of taps of a convolution too.
#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/jit/qproofs.h"
#include "kernels/qmatmul/byte_windows.h"
#include "kernels/qmatmul/corrections.h"
#include "kernels/qmatmul/epilogue.h"
#include "kernels/qmatmul/rows.h"
#include "kernels/qwinograd/rows.h"

namespace planck {
namespace {

using Source = QmatmulArgs::Plan::Source;

// Enough tiles for the cores that we meet, and for the last ones of a step to end together.
constexpr int64_t kEnoughTiles = 24;
// Below this many the rows are cut further, although each panel is then read more than once.
constexpr int64_t kFewTiles = 16;
// Windows are copied again for every group of panels: as few groups as keep a team busy.
constexpr int64_t kCopyTiles = 8;
// Rows are turned for corrections once for every group of panels, and the starts of all its sums
// stay in L2.
constexpr int64_t kMostCorrected = 8;
// Much more work than taking a ticket.
constexpr int64_t kTileProducts = 1 << 22;

int64_t items(const QmatmulArgs& args) {
  int64_t count = 1;
  for (int axis = 0; axis < args.batch_rank; ++axis) {
    count = checked_mul(count, args.batch[axis].extent, "batch of a product");
  }
  return count;
}

bool copies(const QmatmulArgs& args) {
  return args.plan.source == Source::copy || args.plan.source == Source::band;
}

// --- what a tile reads: the block's rows of A as runs of equal height

using Area = QmatmulArea;

struct Runs {
  const uint8_t* a = nullptr;
  int64_t a_stride = 0, groups = 0, lines = 1, line_step = 0, tail = 0;
  int64_t count = 1, rows = 0, step = 0;  // rows of each; bytes of A from run to run
};

// Rows of A beside each other, filled up to whole groups: any bytes do, since the packed weights
// are zero there.
void copy_rows(const QmatmulArgs& args, const uint8_t* a, const Area& area, uint8_t* to) {
  const int64_t pitch = args.plan.a_stride;
  if (args.windows != nullptr) {
    gather_windows(*args.windows, a, padding_byte(args), area.row, area.rows, to, pitch);
  } else {
    for (int64_t i = 0; i < area.rows; ++i) {
      std::memcpy(to + i * pitch, a + (area.row + i) * args.a_stride, static_cast<size_t>(args.k));
    }
  }
  const auto rest = static_cast<size_t>(args.plan.packed_k - args.k);
  for (int64_t i = 0; i < area.rows; ++i) std::memset(to + i * pitch + args.k, 0, rest);
}

Runs runs_of_rows(const QmatmulArgs& args, const uint8_t* a, const Area& area, uint8_t* scratch) {
  const QmatmulArgs::Plan& plan = args.plan;
  Runs runs;
  runs.a_stride = plan.a_stride;
  runs.rows = area.rows;
  if (plan.source == Source::rows) {
    runs.a = a + area.row * plan.a_stride;
    runs.groups = args.k / plan.group;
    runs.tail = args.k % plan.group;
  } else {
    copy_rows(args, a, area, scratch);
    runs.a = scratch;
    runs.groups = plan.packed_k / plan.group;
  }
  return runs;
}

// One run for each row of outputs.
Runs runs_of_windows(const QmatmulArgs& args, const Area& area, uint8_t* scratch) {
  const MatmulWindows& w = *args.windows;
  const int64_t line = area.row / w.x.out, image = line / w.y.out, first = line % w.y.out;
  const uint8_t* picture = args.a + image * w.image_step;
  Runs runs;
  runs.count = area.rows / w.x.out;
  runs.rows = w.x.out;
  int64_t pitch = w.y.step, place = w.x.step;
  if (args.plan.source == Source::band) {
    const ByteBand band = byte_band(w, runs.count);
    copy_band(w, band, picture, padding_byte(args), first, scratch);
    runs.a = scratch;
    pitch = band.pitch, place = w.channels;
  } else {
    runs.a = picture + first * w.y.stride * w.y.step;
  }
  const int64_t k = w.x.kernel * w.channels, group = args.plan.group;
  runs.a_stride = w.x.stride * place;
  runs.groups = k / group;
  runs.tail = k % group;  // of one line alone
  runs.lines = w.y.kernel;
  runs.line_step = w.y.dilation * pitch - runs.groups * group;
  runs.step = w.y.stride * pitch;
  return runs;
}

// For kernels that read numbers of 16 bits: what has been copied, beside it.
Runs widened(const Runs& runs, int64_t bytes, uint8_t* to) {
  auto* numbers = reinterpret_cast<uint16_t*>(to);
  for (int64_t i = 0; i < bytes; ++i) numbers[i] = runs.a[i];
  Runs wide = runs;
  wide.a = to;
  wide.a_stride *= 2, wide.line_step *= 2, wide.step *= 2;
  return wide;
}

Runs runs_of(const QmatmulArgs& args, const uint8_t* a, const Area& area, uint8_t* scratch) {
  const QmatmulArgs::Plan& plan = args.plan;
  uint8_t* bytes = scratch + plan.widened_bytes;
  const Runs runs =
      plan.band_rows == 0 ? runs_of_rows(args, a, area, bytes) : runs_of_windows(args, area, bytes);
  if (plan.widened_bytes == 0) return runs;
  const int64_t copied = plan.band_rows == 0 ? area.rows * plan.a_stride
                                             : byte_band(*args.windows, runs.count).bytes();
  return widened(runs, copied, scratch);
}

// --- running a tile

struct Item {
  const uint8_t* a;
  const int8_t* b;
  QmatmulEnds ends;
};

Item item_of(const QmatmulArgs& args, int64_t index) {
  Item item{args.a, args.b, ends_of(args)};
  for (int axis = args.batch_rank - 1; axis >= 0; --axis) {
    const QmatmulBatch& batch = args.batch[axis];
    const int64_t at = index % batch.extent;
    index /= batch.extent;
    item.a += at * batch.a;
    item.b += at * batch.b;
    move_ends(args, batch, at, item.ends);
  }
  return item;
}

struct Bytes {
  const int8_t* from;
  int64_t count;
};

// What this worker is likely to read next: tickets go round, so it is `count` tiles ahead; behind
// the last tile, the same distance into the next step's weights.
Bytes next_weights(const QmatmulArgs& args, int64_t tile, const Worker& worker) {
  const QmatmulArgs::Plan& plan = args.plan;
  const int64_t tiles = plan.items * plan.m_blocks * plan.n_groups;
  const int64_t next = tile + worker.count, panel = plan.panel_bytes;
  const int64_t bytes = args.cut.panels * panel;
  if (next >= tiles) {
    const int64_t from = std::min((next - tiles) * bytes, args.next.bytes);
    return {args.next.weights + from, std::min(bytes, args.next.bytes - from)};
  }
  const int64_t first = next % plan.n_groups * args.cut.panels;
  const Item item = item_of(args, next / plan.n_groups / plan.m_blocks);
  return {item.b + first * panel, std::min(args.cut.panels, plan.n_panels - first) * panel};
}

// One tile as its parts see it.
struct TileRun {
  const QmatmulArgs& args;
  const Item item;
  const Runs runs;
  // [panels][rows][columns of a panel]: where the sums of corrected panels start.
  int32_t* starts;
  int64_t first_column;  // of the tile
  int32_t* places;       // of the groups of a row, then in the order of a panel
};

// Of the rows of a tile.
int64_t pointers_bytes(const QmatmulArgs& args) {
  constexpr int64_t kLine = 64;
  return round_up(args.cut.m_block * int64_t{sizeof(void*)}, kLine);
}
bool has_corrections(const QmatmulArgs& args) {
  return args.plan.tile.unit == jit::QgemmUnit::pairs;
}

void set_ends(const TileRun& t, const Area& area, jit::QgemmBlock& block) {
  const QmatmulArgs& args = t.args;
  set_epilogue(args, t.item.ends, area, block.call);
  if (has_corrections(args) && jit::ProofLayout(args.k).corrected(block.call.b)) {
    const int64_t panel = (area.column - t.first_column) / args.plan.tile.columns;
    block.call.offset = t.starts + panel * area.rows * args.plan.tile.columns;
    block.call.offset_stride = args.plan.tile.columns * int64_t{sizeof(int32_t)};
  }
}

// Where the groups of a row lie, behind its beginning.
void list_places(const TileRun& t) {
  int32_t* to = t.places;
  int64_t place = 0;
  for (int64_t line = 0; line < t.runs.lines; ++line, place += t.runs.line_step) {
    for (int64_t i = 0; i < t.runs.groups; ++i, place += t.args.plan.group) {
      *to++ = static_cast<int32_t>(place);
    }
  }
}

// The same in the order of a panel of fours.
void set_places(const TileRun& t, jit::QgemmCall& call) {
  constexpr int64_t kOrdered = jit::ProofLayout::kOrdered;
  const jit::ProofLayout layout(t.args.k);
  if (!has_corrections(t.args) || layout.form(call.b) != jit::PanelForm::fours) return;
  const uint8_t* order = layout.order(call.b);
  const int64_t count = t.runs.groups * t.runs.lines;
  int32_t* places = t.places + layout.k / 4;
  for (int64_t i = 0; i < count; ++i) places[i] = t.places[i / kOrdered * kOrdered + order[i]];
  call.places = places;
  call.place_count = count;
}

// Columns [area.column, + area.columns) of all runs; `next` is brought near meanwhile.
void run_chunk(const TileRun& t, const Area& area, Bytes next, bool a_is_far) {
  const Runs& runs = t.runs;
  jit::QgemmBlock block;
  block.rows = runs.rows;
  block.columns = area.columns;
  block.panel_stride = t.args.plan.panel_bytes;
  block.call.a = runs.a;
  block.call.a_stride = runs.a_stride;
  block.call.groups = runs.groups;
  block.call.lines = runs.lines;
  block.call.line_step = runs.line_step;
  block.call.tail = runs.tail;
  block.call.b = t.item.b + area.column / t.args.plan.tile.columns * block.panel_stride;
  set_places(t, block.call);
  block.a_is_far = a_is_far;
  block.prefetch = next.from;
  block.prefetch_bytes = ceil_div(next.count, runs.count);
  set_ends(t, area, block);
  for (int64_t run = 0; run < runs.count; ++run) {
    jit::multiply(t.args.plan.tile, block);
    jit::move_rows(block.call, runs.rows);
    block.call.a = static_cast<const uint8_t*>(runs.a) + (run + 1) * runs.step;
    if (block.prefetch != nullptr) block.prefetch += block.prefetch_bytes;
  }
  run_program(t.args, t.item.ends, area);
}

Area area_of(const QmatmulArgs& args, int64_t m_block, int64_t group) {
  const QmatmulArgs::Plan& plan = args.plan;
  Area area{m_block * args.cut.m_block, group * args.cut.panels * plan.tile.columns, 0, 0};
  area.columns = std::min(args.cut.panels * plan.tile.columns, args.n - area.column);
  if (plan.band_rows == 0) {
    area.rows = std::min(args.cut.m_block, args.m - area.row);
    return area;
  }
  const MatmulWindows& w = *args.windows;
  const int64_t blocks = ceil_div(w.y.out, plan.band_rows);  // of an image
  const int64_t first = m_block % blocks * plan.band_rows;
  area.row = (m_block / blocks * w.y.out + first) * w.x.out;
  area.rows = std::min(plan.band_rows, w.y.out - first) * w.x.out;
  return area;
}

// What the panels of the whole tile leave to be added apart.
void correct(const TileRun& t, const Area& area, uint8_t* scratch) {
  const QmatmulArgs::Plan& plan = t.args.plan;
  const Runs& runs = t.runs;
  const uint8_t** row = reinterpret_cast<const uint8_t**>(scratch);
  for (int64_t run = 0; run < runs.count; ++run) {
    for (int64_t i = 0; i < runs.rows; ++i) {
      row[run * runs.rows + i] = runs.a + run * runs.step + i * runs.a_stride;
    }
  }
  const CorrectedRows rows{row,        area.rows,      runs.groups * plan.group,
                           runs.lines, runs.line_step, runs.tail};
  const int64_t first = area.column / plan.tile.columns;
  const CorrectedPanels panels{jit::ProofLayout(t.args.k), t.item.b + first * plan.panel_bytes,
                               ceil_div(area.columns, plan.tile.columns),
                               t.args.offset + area.column, area.columns};
  add_corrections(rows, panels, scratch + pointers_bytes(t.args), t.starts);
}

void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const QmatmulArgs*>(raw);
  const QmatmulArgs::Plan& plan = args.plan;
  const Area area = area_of(args, tile / plan.n_groups % plan.m_blocks, tile % plan.n_groups);
  Item item = item_of(args, tile / plan.n_groups / plan.m_blocks);
  auto* scratch = reinterpret_cast<uint8_t*>(worker.scratch);
  item.ends.stage = reinterpret_cast<float*>(scratch + plan.stage_offset);
  const Runs runs = runs_of(args, item.a, area, scratch);
  const TileRun t{args,        item,
                  runs,        reinterpret_cast<int32_t*>(scratch + plan.starts_offset),
                  area.column, reinterpret_cast<int32_t*>(scratch + plan.places_offset)};
  if (has_corrections(args)) list_places(t);
  if (has_corrections(args)) correct(t, area, scratch + plan.corrections_offset);
  Bytes next = next_weights(args, tile, worker);
  const int64_t chunks = ceil_div(area.columns, plan.chunk), share = ceil_div(next.count, chunks);
  for (int64_t at = 0; at < area.columns; at += plan.chunk) {
    const int64_t columns = std::min(plan.chunk, area.columns - at);
    const int64_t count = std::min(share, next.count);
    // The beginning of this worker's first tile of the step; what it copies is near.
    const bool a_is_far = at == 0 && tile < worker.count && plan.source == Source::rows;
    run_chunk(t, {area.row, area.column + at, area.rows, columns}, {next.from, count}, a_is_far);
    if (next.from != nullptr) next.from += count;
    next.count -= count;
  }
}

// --- planning

void check(const QmatmulArgs& args) {
  if (args.m < 0 || args.n < 0 || args.k < 0 || args.batch_rank < 0 ||
      args.batch_rank > kMaxQmatmulBatch) {
    throw InternalError("an integer product of ", args.m, " x ", args.n, " x ", args.k, " with ",
                        args.batch_rank, " batch axes");
  }
  if (args.windows != nullptr && args.windows->k() != args.k) {
    throw InternalError("windows of ", args.windows->k(), " elements for a product over ", args.k);
  }
  if (args.requantize && (args.low < 0 || args.low > args.high || args.high > UINT8_MAX)) {
    throw InternalError("bytes from ", args.low, " to ", args.high);
  }
}

jit::QgemmUnit unit_of(const QmatmulRow& row) {
  switch (row.unit) {
    case QmatmulUnit::widen:
      return jit::QgemmUnit::widen;
    case QmatmulUnit::pairs:
      return jit::QgemmUnit::pairs;
    case QmatmulUnit::amx_int8:
      return jit::QgemmUnit::tiles;
    default:
      return jit::QgemmUnit::vnni;
  }
}

// 1 x 1 windows side by side: their places are the rows.
bool are_rows(const MatmulWindows& w) {
  const auto steps = [](const WindowSteps& a) {
    return a.kernel == 1 && a.stride == 1 && a.begin == 0 && a.out == a.in;
  };
  return steps(w.y) && steps(w.x) && (w.y.in == 1 || w.y.step == w.x.in * w.x.step) &&
         w.image_step == w.y.in * w.x.in * w.x.step;
}

bool reads_bytes(const QmatmulArgs& args) { return args.plan.tile.unit != jit::QgemmUnit::widen; }
// Vector kernels take the end of k from where it lies, if there is a whole group before.
bool reads_tails(const QmatmulArgs& args) {
  return reads_bytes(args) && args.plan.tile.unit != jit::QgemmUnit::tiles;
}
bool reads_rows(const QmatmulArgs& args) {
  const bool tail = args.k % args.plan.group != 0;
  return reads_bytes(args) && args.k >= args.plan.group && (!tail || reads_tails(args));
}

// Whether a kernel can walk along the taps: those of a line are neighbours, in whole groups.
bool walks_lines(const QmatmulArgs& args) {
  constexpr int64_t kFewest = 6, kMost = 256;  // outputs of a line: short ones fill no tile
  const MatmulWindows& w = *args.windows;
  const int64_t k = w.x.kernel * w.channels;
  const int64_t group = args.plan.group;
  const bool whole = k % group == 0 || (w.y.kernel == 1 && reads_tails(args) && k >= group);
  // Places in a row are 32 bits where groups have an order of their own.
  const bool near = !has_corrections(args) ||
                    w.y.step <= INT32_MAX / std::max<int64_t>(1, w.y.kernel * w.y.dilation);
  return args.batch_rank == 0 && whole && near && k > 0 && (w.x.dilation == 1 || w.x.kernel == 1) &&
         w.x.out >= kFewest && w.x.out <= kMost && w.y.out > 0;
}

// Windows that overlap and begin inside, so that a band is hardly larger than the picture: what a
// damaged plan says is not computed with before.
bool overlaps(const WindowSteps& axis) {
  return axis.stride <= axis.kernel && axis.begin < axis.kernel && axis.out > 0 &&
         axis.dilation <= axis.in && axis.out - 1 <= (axis.in + 2 * axis.kernel) / axis.stride;
}

int64_t band_bytes(const QmatmulArgs& args, int64_t rows) {
  const ByteBand band = byte_band(*args.windows, rows);
  checked_mul(band.lines, band.pitch, "lines");
  return band.bytes();
}

Source choose_source(const QmatmulArgs& args, const Device& device) {
  if (args.windows == nullptr) {
    return reads_rows(args) || args.k == 0 ? Source::rows : Source::copy;
  }
  const MatmulWindows& w = *args.windows;
  if (are_rows(w) && reads_rows(args)) return Source::rows;
  if (!walks_lines(args)) return Source::copy;
  const bool neighbours = w.x.kernel == 1 || w.x.step == w.channels;
  if (reads_bytes(args) && never_padded(w) && neighbours) return Source::picture;
  const bool fits = overlaps(w.y) && overlaps(w.x) && band_bytes(args, 1) <= device.l2_bytes / 2;
  return fits ? Source::band : Source::copy;
}

// Rows are turned again for every group of panels: fewer rows, so that groups are of a few panels.
int64_t turned_rows(const QmatmulArgs& args, int64_t rows) {
  constexpr int64_t kFewPanels = 4;
  const int64_t panels = args.plan.items * args.plan.n_panels;
  while (rows > 4 * kTurnedRows && panels * ceil_div(args.m, rows) < kFewPanels * kCopyTiles) {
    rows = round_up(ceil_div(rows, 2), kTurnedRows);
  }
  return rows;
}

// Rows of A and C in one tile.
int64_t choose_rows(const QmatmulArgs& args, const Device& device) {
  // Enough to reuse a panel, which narrow ones need less; enough tiles.
  constexpr int64_t kMost = 240;
  const jit::QgemmTile& tile = args.plan.tile;
  const int64_t least = reads_bytes(args) ? 128 : 48, bytes = reads_bytes(args) ? 1 : 2;
  const int64_t fits = device.l2_bytes / 2 / std::max<int64_t>(1, args.k * bytes);
  const int64_t most = std::clamp<int64_t>(fits, least, kMost);
  int64_t rows =
      std::max<int64_t>(1, ceil_div(args.m, std::max<int64_t>(1, ceil_div(args.m, most))));
  const int64_t tiles = args.plan.items * args.plan.n_panels;
  while (rows > int64_t{4} * tile.rows && tiles * ceil_div(args.m, rows) < kFewTiles) {
    rows = ceil_div(rows, 2);
  }
  if (has_corrections(args)) return turned_rows(args, rows);
  return rows;
}

// About as many rows of A as a panel's way through L2 pays for; the band takes half of L2 at most.
void cut_bands(QmatmulArgs& args, const Device& device) {
  constexpr int64_t kRows = 128;
  QmatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  plan.band_rows = std::clamp<int64_t>(kRows / w.x.out, 1, w.y.out);
  while (plan.band_rows > 1 && band_bytes(args, plan.band_rows) > device.l2_bytes / 2) {
    plan.band_rows = ceil_div(plan.band_rows, 2);
  }
  const int64_t images = args.m / (w.x.out * w.y.out);
  args.cut.m_block = plan.band_rows * w.x.out;
  plan.m_blocks = checked_mul(images, ceil_div(w.y.out, plan.band_rows), "rows of windows");
}

void choose_cut(QmatmulArgs& args, const Device& device) {
  QmatmulArgs::Plan& plan = args.plan;
  plan.n_panels = ceil_div(args.n, plan.tile.columns);
  if (plan.source == Source::band || plan.source == Source::picture) {
    cut_bands(args, device);
  } else {
    if (args.cut.m_block == 0) args.cut.m_block = choose_rows(args, device);
    plan.m_blocks = ceil_div(args.m, args.cut.m_block);
  }
  const int64_t rows = args.cut.m_block;
  // Panels that a kernel takes at once, where one block of rows is all there is.
  const int64_t wide = rows <= plan.tile.rows ? plan.tile.panels[rows] : 1;
  plan.chunk = wide * plan.tile.columns;
  if (args.cut.panels == 0) {
    const int64_t work = std::max<int64_t>(1, rows * plan.tile.columns * args.k);
    const bool few = copies(args) || has_corrections(args);
    const int64_t enough = few ? kCopyTiles : kEnoughTiles;
    int64_t most = std::max<int64_t>(1, plan.n_panels * plan.items * plan.m_blocks / enough);
    if (has_corrections(args) && !copies(args)) most = std::min(most, kMostCorrected);
    const int64_t least = few ? most : ceil_div(kTileProducts, work);
    args.cut.panels = round_up(std::clamp<int64_t>(least, 1, most), wide);
  }
  args.cut.panels = std::clamp<int64_t>(args.cut.panels, 1, std::max<int64_t>(1, plan.n_panels));
  plan.n_groups = ceil_div(plan.n_panels, args.cut.panels);
}

void choose_scratch(QmatmulArgs& args) {
  // A pitch of a multiple of 1 KiB would put the rows of a register tile into few cache sets.
  constexpr int64_t kSet = 1024, kLine = 64;
  QmatmulArgs::Plan& plan = args.plan;
  plan.a_stride = args.windows != nullptr ? args.windows->x.step : args.a_stride;
  if (plan.source == Source::copy) {
    const int64_t used = round_up(std::max<int64_t>(plan.packed_k, 1), kLine);
    plan.a_stride = used + (used % kSet == 0 ? kLine : 0);
    plan.scratch_bytes = checked_mul(args.cut.m_block, plan.a_stride, "copied rows");
  } else if (plan.source == Source::band) {
    plan.scratch_bytes = round_up(band_bytes(args, plan.band_rows), kLine);
  }
  if (!reads_bytes(args)) {
    plan.widened_bytes = 2 * plan.scratch_bytes;
    plan.scratch_bytes += plan.widened_bytes;
  }
  if (plan.staged) {
    plan.stage_offset = plan.scratch_bytes;
    const int64_t floats = checked_mul(args.cut.m_block, plan.chunk, "rows of a chunk");
    plan.scratch_bytes += round_up(floats * int64_t{sizeof(float)}, kLine);
  }
  if (!has_corrections(args)) return;
  plan.starts_offset = plan.scratch_bytes;
  const int64_t columns = args.cut.panels * plan.tile.columns;
  const int64_t starts = checked_mul(args.cut.m_block, columns, "rows of a tile");
  plan.corrections_offset = plan.starts_offset + starts * int64_t{sizeof(int32_t)};
  plan.places_offset = plan.corrections_offset;
  plan.corrections_offset += round_up(plan.packed_k / 4 * 2 * int64_t{sizeof(int32_t)}, kLine);
  plan.scratch_bytes = plan.corrections_offset + pointers_bytes(args) +
                       round_up(corrections_scratch(args.cut.panels), kLine);
}

}  // namespace

Job plan_qmatmul(const QmatmulRow& row, QmatmulArgs& args) {
  check(args);
  QmatmulArgs::Plan& plan = args.plan;
  plan = {};
  if (is_winograd(row.unit)) return plan_qwinograd(row, args);
  const bool bytes = choose_epilogue(row, args);
  plan.tile = jit::qgemm_tile(row.isa, unit_of(row), row.tile_m, row.tile_n, bytes);
  plan.items = items(args);
  plan.packed_k = round_up(args.k, row.tile_k);
  plan.panel_bytes = panel_bytes(row, args.k);
  plan.group = jit::group_of(plan.tile.unit);
  plan.source = choose_source(args, this_device());
  choose_cut(args, this_device());
  choose_scratch(args);
  const int64_t tiles = checked_mul(plan.n_groups, plan.m_blocks, "tiles");
  return {run_tile, &args, checked_mul(tiles, plan.items, "tiles")};
}

}  // namespace planck
