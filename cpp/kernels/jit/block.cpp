#include "kernels/jit/block.h"

#include <xmmintrin.h>

#include <algorithm>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/vector_units.h"

namespace planck::jit {
namespace {

// -1 sixty-four times, then 0: the mask of c columns starts c entries before the zeros.
struct Masks {
  static constexpr int kColumns = 64;
  int32_t lanes[2 * kColumns];
};
constexpr Masks make_masks() {
  Masks masks{};
  for (int i = 0; i < Masks::kColumns; ++i) masks.lanes[i] = -1;
  return masks;
}
constexpr Masks kMasks = make_masks();

const int32_t* mask_of(int64_t columns) { return kMasks.lanes + Masks::kColumns - columns; }

// With fewer than about twelve sums in flight (4 cycles of latency, 2 units) the kernel waits for
// itself, so that a tile of few rows takes several panels at once. Weights that are read once come
// fastest as one stream where memory needs no asking: then a line of 64 bytes for each k is enough.
// Elsewhere (Intel) a stream's prefetcher keeps few lines in flight, and two streams keep more: as
// far as there are registers.
int panels_for(const GemmRecipe& r, Stream stream) {
  constexpr int kSums = 12, kMostSums = 24, kMostPanels = 6, kLine = 16;
  const int vectors = r.vectors;
  const bool unasked = streams_unasked();
  if (stream == Stream::alone && unasked) {
    return std::max(1, kLine / (vectors * vector_floats(r)));
  }
  const int least = std::clamp(kSums / (r.rows * vectors), 1, kMostPanels);
  if (stream == Stream::none || unasked || r.isa < Isa::avx512) return least;
  return std::clamp(kMostSums / (r.rows * vectors), 1, std::max(least, 2));
}

// Columns of one vector alone, of which a tile has twice as many rows.
constexpr int kNarrowRows = 12;
bool is_narrow(const GemmTile& tile, Isa isa, int64_t columns) {
  return knows_columns(isa) && columns <= vector_floats(isa) && columns < tile.columns;
}

GemmRecipe recipe_of(Isa isa, int rows, int columns, bool pairs = false) {
  const bool half = isa >= Isa::avx512 && columns % 16 != 0 && !pairs;
  GemmRecipe recipe{.isa = isa, .half = half, .rows = rows, .pairs = pairs};
  recipe.vectors = columns / vector_columns(recipe);
  return recipe;
}

void call_one(const GemmTile& tile, GemmCall& call, int64_t columns) {
  const bool masked = columns < tile.columns;
  call.mask = masked ? mask_of(columns) : nullptr;
  tile.one[call.rows][masked](&call);
}

// Fields of one call are changed rather than calls copied: a copy costs as much as a low tile.
struct Columns {
  explicit Columns(const GemmCall& call)
      : b(call.b), bias(call.bias), residual(call.residual), c(call.c), column(call.column) {}
  void move(int64_t columns) {
    c += columns;
    column += columns;
    if (bias != nullptr) bias += columns;
    if (residual != nullptr) residual += columns;
  }
  void put(GemmCall& call) const {
    call.b = b;
    call.bias = bias;
    call.residual = residual;
    call.c = c;
    call.column = column;
  }
  const float *b, *bias, *residual;
  float* c;
  int64_t column;
};

void move_rows(GemmCall& call) {
  if (call.a_places != nullptr) {
    call.a_places += call.rows;
  } else {
    call.a += call.rows * call.a_stride;
  }
  call.c += call.rows * call.c_stride;
  call.row += call.rows;
  if (call.residual != nullptr) call.residual += call.rows * call.residual_stride;
}

// What calls prefetch, one after the other: each so many bytes of the first range, then of the
// second.
struct Ahead {
  const float* next(int64_t calls = 1) {
    const char* now = at;
    left -= calls * each;
    at = left > 0 || then == nullptr ? at + calls * each : std::exchange(then, nullptr);
    return reinterpret_cast<const float*>(now);
  }
  // How many of the next calls, at most so many, go through one range.
  int64_t calls(int64_t most) const {
    return then == nullptr || each <= 0 ? most : std::clamp<int64_t>(ceil_div(left, each), 1, most);
  }
  const char* at;
  int64_t left, each;
  const char* then;
};

// One row of tiles over a few panels; the call is as before then.
void multiply_rows(const GemmTile& tile, const GemmBlock& block, GemmCall& call, int64_t columns,
                   Ahead& ahead) {
  const int wide = tile.panels[call.rows];
  const Columns first(call);
  Columns now = first;
  call.mask = nullptr;
  for (int64_t at = 0; at < columns;) {
    const int64_t left = columns - at;
    const bool many = wide > 1 && left >= wide * tile.columns;
    call.prefetch = ahead.next();
    if (many) {
      tile.many[call.rows](&call);
    } else {
      call_one(tile, call, std::min<int64_t>(left, tile.columns));
    }
    const int panels = many ? wide : 1;
    at += panels * tile.columns;
    if (at >= columns) break;
    now.move(panels * tile.columns);
    now.b += panels * block.panel_stride;
    now.put(call);
  }
  first.put(call);
}

// Equal heights rather than full tiles and a thin rest: 128 rows are 18 x 6 + 4 x 5.
struct Heights {
  Heights(int64_t rows, int most)
      : tiles(ceil_div(rows, most)), low(rows / tiles), higher(rows % tiles) {}
  int64_t of(int64_t tile) const { return low + (tile < higher); }
  // Tiles of the same height from this one on.
  int64_t same(int64_t tile) const { return (tile < higher ? higher : tiles) - tile; }
  int64_t tiles, low, higher;
};

}  // namespace

GemmTile gemm_tile(Isa isa, int rows, int columns, Stream stream) {
  GemmTile tile;
  const bool once = stream != Stream::none;
  tile.once = once;
  tile.rows = rows;
  tile.columns = columns;
  for (int r = 1; r <= rows; ++r) {
    tile.panels[r] = 1;
    if (isa == Isa::portable) {
      if (columns != kPortableColumns) throw InternalError("portable panels have 16 columns");
      tile.one[r][0] = tile.one[r][1] = gemm_portable;
      continue;
    }
    GemmRecipe recipe = recipe_of(isa, r, columns);
    recipe.once = once;
    tile.one[r][0] = gemm_kernel(recipe);
    recipe.masked = true;
    tile.one[r][1] = gemm_kernel(recipe);
    recipe.masked = false;
    recipe.panels = tile.panels[r] = panels_for(recipe, stream);
    tile.prefetches[r] = prefetches(recipe);
    if (recipe.panels > 1) tile.many[r] = gemm_kernel(recipe);
  }
  return tile;
}

GemmTile pair_tile(int pairs, int columns) {
  GemmTile tile;
  tile.rows = pairs;
  tile.columns = columns;
  tile.pairs = true;
  for (int r = 1; r <= pairs; ++r) {
    GemmRecipe recipe = recipe_of(Isa::avx512, r, columns, true);
    recipe.panels = tile.panels[r] = panels_for(recipe, Stream::none);
    tile.prefetches[r] = prefetches(recipe);
  }
  return tile;
}

bool specialize(GemmTile& tile, Isa isa, const GemmSource& source, const Epilogue& epilogue,
                const GemmBlocks& blocks) {
  GemmTile special;
  special.rows = is_narrow(tile, isa, blocks.columns) ? kNarrowRows : tile.rows;
  special.columns = tile.columns;
  special.once = tile.once;
  special.pairs = tile.pairs;
  const auto shape = [&](int rows, int panels) {
    GemmRecipe recipe = recipe_of(isa, rows, tile.columns, tile.pairs);
    recipe.panels = panels;
    recipe.once = tile.once;
    return recipe;
  };
  const auto add = [&](GemmFn& slot, int rows, int panels, bool masked) {
    GemmRecipe recipe = shape(rows, panels);
    recipe.masked = masked;
    if (masked && knows_columns(isa)) {
      recipe.exist = static_cast<int>(blocks.columns % tile.columns);
    }
    recipe.streams = source.streams;
    recipe.lines = source.lines;
    recipe.scattered = source.scattered;
    recipe.epilogue = epilogue;
    slot = gemm_kernel(recipe);
    return slot != nullptr;
  };
  for (const int64_t rows : blocks.rows) {
    if (rows <= 0) continue;
    const Heights heights(rows, special.rows);
    for (const auto height : {heights.low, heights.low + 1}) {
      if (height > heights.low && heights.higher == 0) continue;
      const int r = static_cast<int>(height);
      const bool whole = blocks.columns >= tile.columns;
      const int wide = whole ? tile.panels[r] : 1;
      special.panels[r] = wide;
      special.prefetches[r] = prefetches(shape(r, wide));
      if (whole && !add(special.one[r][0], r, 1, false)) return false;
      if (blocks.columns % tile.columns != 0 && !add(special.one[r][1], r, 1, true)) return false;
      if (wide > 1 && whole && !add(special.many[r], r, wide, false)) return false;
    }
  }
  tile = special;
  return true;
}

bool takes_scattered(const GemmTile& tile, Isa isa, int64_t columns) {
  return isa == Isa::avx2 && tile.rows <= kScatteredRows && !is_narrow(tile, isa, columns);
}

GemmPieces pieces_of(const GemmInside& inside, int64_t row, int64_t rows, int64_t lines) {
  if (inside.rows == 0) return {0, lines};
  const int64_t top = row / inside.rows, bottom = (row + rows - 1) / inside.rows;
  const int64_t first = std::clamp<int64_t>(inside.first - bottom * inside.step, 0, lines - 1);
  return {first, std::clamp(inside.end - top * inside.step, first + 1, lines) - first};
}

void prefetch_rows(const float* first, int64_t stride, int64_t rows, int64_t columns) {
  constexpr int64_t kLine = 16;
  for (int64_t i = 0; i < rows; ++i, first += stride) {
    for (int64_t j = 0; j < columns; j += kLine) _mm_prefetch(first + j, _MM_HINT_T1);
  }
}

// Columns of a few panels which together fill half of L1: where each is short, the rows of C are
// written, and those of a residual read, in longer runs.
int64_t columns_in_l1(const GemmTile& tile, const GemmBlock& block, int64_t panels) {
  constexpr int64_t kBytes = 16 << 10;
  const GemmCall& call = block.call;
  if (block.c_is_near) return panels * tile.columns;
  const int64_t bytes = panels * panel_floats(tile) * call.k * call.lines * int64_t{sizeof(float)};
  return panels * tile.columns * std::max<int64_t>(1, kBytes / std::max<int64_t>(1, bytes));
}

// Kernels for any number of rows take one panel after the other.
void multiply_any_rows(const GemmTile& tile, const GemmBlock& block) {
  GemmCall call = block.call;
  Columns column(call);
  call.rows = block.rows;
  for (int64_t at = 0; at < block.columns; at += tile.columns) {
    column.put(call);
    tile.any_rows[std::min<int64_t>(block.columns - at, tile.columns)](&call);
    column.move(tile.columns);
    column.b += block.panel_stride;
  }
}

// The part of the block from `row` on with so many rows, which needs these pieces of scattered rows
// alone, and its share of what is prefetched.
GemmBlock part_of(const GemmTile& tile, const GemmBlock& block, int64_t row, int64_t rows,
                  const GemmPieces& pieces) {
  GemmBlock part = block;
  part.inside = {};
  part.rows = rows;
  part.call.lines = pieces.count;
  part.call.a_places += pieces.first * block.call.a_line + row;
  part.call.b += pieces.first * block.call.k * panel_floats(tile);
  part.call.c += row * block.call.c_stride;
  part.call.row += row;
  if (block.call.residual != nullptr) part.call.residual += row * block.call.residual_stride;
  const auto share = [&](const float*& from, int64_t& bytes) {
    const auto before = [&](int64_t end) { return bytes * end / block.rows / 4; };  // floats
    if (from != nullptr) from += before(row);
    bytes = (before(row + rows) - before(row)) * 4;
  };
  share(part.prefetch, part.prefetch_bytes);
  share(part.prefetch_then, part.prefetch_then_bytes);
  return part;
}

// Runs of tiles that need the same pieces. The block has as few tiles as there can be, and so has
// each run: the heights are those of the block.
void multiply_inside(const GemmTile& tile, const GemmBlock& block) {
  const Heights heights(block.rows, tile.rows);
  for (int64_t t = 0, row = 0, rows = 0; t < heights.tiles; row += rows) {
    const auto pieces = [&](int64_t from) {
      return pieces_of(block.inside, from, heights.of(t), block.call.lines);
    };
    const GemmPieces now = pieces(row);
    for (rows = 0; t < heights.tiles && pieces(row + rows) == now; ++t) rows += heights.of(t);
    multiply(tile, part_of(tile, block, row, rows, now));
  }
}

// Panels outside, rows inside: a panel of B (or the few that a low tile needs) stays in L1 while
// the rows of A pass by from L2.
void multiply(const GemmTile& tile, const GemmBlock& block) {
  if (block.rows <= 0 || block.columns <= 0) return;
  if (tile.any_rows != nullptr) return multiply_any_rows(tile, block);
  if (block.inside.rows > 0) return multiply_inside(tile, block);
  const Heights heights(block.rows, tile.rows);
  const int64_t wide = tile.panels[heights.low];
  const int64_t step = columns_in_l1(tile, block, wide);
  GemmCall call = block.call;
  Columns column(call);
  call.b_stride = block.panel_stride;
  // Spread the bytes over the prefetches of all calls. No line is left out between two of them, as
  // that would teach the hardware's own prefetcher steps that nobody makes: where there are too few
  // of them, they bring the first bytes.
  constexpr int64_t kLine = 64;
  const int64_t calls = heights.tiles * ceil_div(block.columns, wide * tile.columns);
  const int64_t prefetches =
      std::max<int64_t>(1, call.lines * (call.k / 4) * tile.prefetches[heights.low]);
  const int64_t bytes = block.prefetch_bytes + block.prefetch_then_bytes;
  call.prefetch_step = std::min(kLine, ceil_div(bytes, calls * prefetches));
  // Without a wish prefetch what is there: an address that is not mapped costs a page walk.
  const float* next = block.prefetch != nullptr ? block.prefetch : call.c;
  Ahead ahead{reinterpret_cast<const char*>(next), block.prefetch_bytes,
              call.prefetch_step * prefetches, reinterpret_cast<const char*>(block.prefetch_then)};
  for (int64_t at = 0; at < block.columns; at += step) {
    column.put(call);
    call.a = block.call.a;
    call.a_places = block.call.a_places;
    call.row = block.call.row;
    const int64_t columns = std::min(step, block.columns - at);
    const bool far = block.a_is_far && at == 0;
    for (int64_t t = 0, count = 0; t < heights.tiles; t += count) {
      call.rows = heights.of(t);
      if (far && t == 0 && tile.once) {
        prefetch_rows(call.a, call.a_stride, call.rows, call.k);
      }
      if (far && t + 1 < heights.tiles) {
        prefetch_rows(call.a + call.rows * call.a_stride, call.a_stride, heights.of(t + 1), call.k);
      }
      const bool alone = far || columns > tile.columns || call.a_places != nullptr;
      count = alone ? 1 : ahead.calls(heights.same(t));
      call.tiles = count;
      if (count > 1) {
        call.prefetch = ahead.next(count);
        call_one(tile, call, columns);
      } else {
        multiply_rows(tile, block, call, columns, ahead);
      }
      move_rows(call);
    }
    column.move(step);
    column.b += step / tile.columns * block.panel_stride;
  }
}

}  // namespace planck::jit
