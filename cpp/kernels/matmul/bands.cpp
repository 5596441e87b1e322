#include "kernels/matmul/bands.h"

#include <xmmintrin.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/checked.h"
#include "kernels/matmul/pairs.h"
#include "kernels/matmul/tile.h"

namespace planck {
namespace {

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

// Nearly equal parts of `count`; so are halves and quarters of them, which workers take.
struct Part {
  int64_t first, count;
};
Part part_of(int64_t count, int64_t parts, int64_t index) {
  const int64_t first = part_begin(count, index, parts);
  return {first, part_begin(count, index + 1, parts) - first};
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
// copied twice; the band takes half of L2 at most. An even number of bands, for two workers to end
// together.
void cut_bands(MatmulArgs& args) {
  constexpr int64_t kRows = 96, kLines = 4;
  MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const int64_t images = args.m / (w.x.out * w.y.out);
  plan.in_place = !plan.tile.pairs && lies_in_place(w);
  find_inner(args);
  const bool copies = !plan.in_place && plan.inner_from == plan.inner_to;
  const int64_t least = copies ? std::clamp<int64_t>(images * w.y.out / kFewTiles, 1, kLines) : 1;
  plan.band_rows = std::min(std::max(kRows / w.x.out, least), w.y.out);
  while (plan.band_rows > 1 && copies && band_bytes(args, plan.band_rows) > band_room()) {
    plan.band_rows = ceil_div(plan.band_rows, 2);
  }
  plan.bands = ceil_div(w.y.out, plan.band_rows);
  if (plan.bands > 1) plan.bands = std::min(round_up(plan.bands, 2), w.y.out);
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

// The lines of taps that lie in the picture, for such lines of outputs of an image.
jit::GemmInside taps_inside(const MatmulWindows& w, const Part& rows) {
  const int64_t above = w.y.begin - rows.first * w.y.stride, end = w.y.in + above;
  if (above <= 0 && end - (rows.count - 1) * w.y.stride >= w.y.kernel) return {};
  return {w.x.out, above, end, w.y.stride};
}

jit::GemmBlock band_block(const MatmulArgs& args, const MatmulArea& area, const Band& band,
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
  const jit::GemmInside inside = std::exchange(block.inside, {});
  const int64_t lines = block.rows / w.x.out;
  const int64_t b_line = block.call.k * jit::panel_floats(tile);
  const float *a = block.call.a, *b = block.call.b;
  block.rows = args.plan.line;
  block.prefetch_bytes /= lines;
  block.prefetch_then_bytes /= lines;
  for (int64_t y = 0; y < lines; ++y, a += w.y.stride * band.pitch) {
    const jit::GemmPieces taps = jit::pieces_of(inside, y * w.x.out, w.x.out, w.y.kernel);
    block.call.lines = taps.count;
    block.call.a = a + taps.first * block.call.a_line;
    block.call.b = b + taps.first * b_line;
    jit::multiply(tile, block);
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
bool prefetch_lines(const MatmulArgs& args, int64_t tile, int64_t next, const MatmulArea& panel,
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
                    const MatmulArea& panel, jit::GemmBlock& block) {
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
                       const MatmulArea& panel, jit::GemmBlock& block) {
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
  const MatmulArea all{(image * w.y.out + rows.first) * w.x.out, column, rows.count * w.x.out,
                       std::min(panels.count * width, args.n - column)};
  const TileC c = c_of(args, item_of(args, 0), all, worker);
  for (int64_t at = 0; at < all.columns; at += width) {
    const MatmulArea panel{all.row, column + at, all.rows, std::min(width, all.columns - at)};
    jit::GemmBlock product = band_block(args, panel, band, {c.first + at, c.stride});
    product.call.a_places = places;
    product.inside = taps_inside(w, rows);
    prefetch_panel(args, tile, worker, at + width >= all.columns, panel, product);
    prefetch_residual(args, tile, worker, panel, product);
    multiply_rows(args, product, band);
  }
  if (plan.streaming.rows > 0) _mm_sfence();
  run_program(args, item_of(args, 0), all, c);
}

}  // namespace

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

Job plan_bands(const MatmulRow& row, MatmulArgs& args) {
  MatmulArgs::Plan& plan = args.plan;
  const MatmulWindows& w = *args.windows;
  const bool fills = w.x.out % row.tile_m == 0 && lies_in_place(w);
  plan.scattered = jit::takes_scattered(plan.tile, row.isa, args.n) && !fills;
  cut_bands(args);
  const int64_t step = plan.in_place ? w.x.step : w.channels;
  if (!plan.scattered && !plan.tile.pairs) keep_rows_in_l1(args, w.x.stride * step);
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

}  // namespace planck
