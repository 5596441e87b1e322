#include "kernels/jit/qblock.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "kernels/jit/gemm.h"
#include "kernels/jit/qproofs.h"
#include "kernels/jit/qtiles.h"

namespace planck::jit {
namespace {

// -1 as often as the widest panel has columns, then 0: the mask of c columns starts c before those.
struct Masks {
  static constexpr int kColumns = QgemmTile::kMaxColumns;
  int32_t lanes[2 * kColumns];
};
constexpr Masks make_masks() {
  Masks masks{};
  for (int i = 0; i < Masks::kColumns; ++i) masks.lanes[i] = -1;
  return masks;
}
constexpr Masks kMasks = make_masks();

const int32_t* mask_of(int64_t columns) { return kMasks.lanes + Masks::kColumns - columns; }

// With few sums in flight the kernel waits for itself, so that a tile of few rows takes several
// panels at once. vpdpbusd takes 4 or 5 cycles, a vpaddd behind a product one.
int panels_for(const QgemmRecipe& recipe) {
  if (recipe.unit == QgemmUnit::pairs) return 1;  // each may have a form of its own
  if (recipe.unit == QgemmUnit::sums || recipe.unit == QgemmUnit::words) return 1;
  const int sums = recipe.unit == QgemmUnit::vnni ? 12 : 8;
  return std::max(1, sums / (recipe.rows * recipe.vectors));
}

template <class T>
T* moved(T* pointer, int64_t bytes) {
  if (pointer == nullptr) return pointer;
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(pointer) + bytes);
}
template <class T>
void move(T*& pointer, int64_t bytes) {
  pointer = moved(pointer, bytes);
}

struct At {
  int64_t row, column;
};

// What a call for the rows and columns from a place on names. The fields of one call are changed
// rather than calls copied: a copy waits until the stores before it are done, and so one kernel
// could not begin while the one before ends.
class Places {
 public:
  Places(const QgemmTile& tile, const QgemmBlock& block)
      : first_(block.call),
        panel_stride_(block.panel_stride),
        columns_(tile.columns),
        c_bytes_(tile.bytes ? 1 : 4) {}

  void put(QgemmCall& call, const At& at) const {
    constexpr int64_t kFloat = sizeof(float);
    const QgemmCall& f = first_;
    call.a = moved(f.a, at.row * f.a_stride);
    call.b = f.b + at.column / columns_ * panel_stride_;
    call.c = moved(f.c, at.row * f.c_stride + at.column * c_bytes_);
    call.offset = moved(f.offset, at.row * f.offset_stride) + at.column;
    call.multiplier = f.multiplier + at.column;
    call.bias = moved(f.bias, at.column * kFloat);
    call.residual = moved(f.residual, at.row * f.residual_stride + at.column * kFloat);
    call.byte_residual = moved(f.byte_residual, at.row * f.byte_residual_stride + at.column);
  }
  const QgemmCall& first() const { return first_; }

 private:
  const QgemmCall& first_;
  int64_t panel_stride_, columns_, c_bytes_;
};

void run_kernel(const QgemmTile& tile, const QgemmCall& call, bool masked) {
  const QgemmFn(*kernels)[2] = tile.one;
  if (tile.unit == QgemmUnit::pairs) {
    const auto form = static_cast<PanelForm>(call.b[call.panel_bytes - kProofBytes]);
    if (form == PanelForm::any) kernels = tile.any;
    if (form == PanelForm::fours) kernels = tile.fours;
  }
  kernels[call.rows][masked](&call);
}

struct ByteRows {
  uint8_t* at;
  int64_t stride;
};
void copy_bytes(const ByteRows& from, const ByteRows& to, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(to.at + i * to.stride, from.at + i * from.stride, static_cast<size_t>(columns));
  }
}

// The kernel takes and stores the bytes of all columns of the tile: those that exist are copied to
// and from places that have them.
void call_beside(const QgemmTile& tile, QgemmCall whole, int64_t columns) {
  constexpr int64_t kBytes = int64_t{QgemmTile::kMaxRows} * QgemmTile::kMaxColumns;
  alignas(64) uint8_t c_place[kBytes], residual_place[kBytes];
  const ByteRows c_beside{c_place, tile.columns}, beside{residual_place, tile.columns};
  for (int64_t left = std::exchange(whole.tiles, 1); left > 0; --left) {
    QgemmCall call = whole;
    if (call.byte_residual != nullptr) {
      copy_bytes({const_cast<uint8_t*>(call.byte_residual), call.byte_residual_stride}, beside,
                 call.rows, columns);
      call.byte_residual = beside.at;
      call.byte_residual_stride = beside.stride;
    }
    if (tile.bytes) {
      call.c = c_beside.at;
      call.c_stride = c_beside.stride;
    }
    run_kernel(tile, call, true);
    const ByteRows c{static_cast<uint8_t*>(whole.c), whole.c_stride};
    if (tile.bytes) copy_bytes(c_beside, c, call.rows, columns);
    move_rows(whole, call.rows);
  }
}

void call_one(const QgemmTile& tile, QgemmCall& call, int64_t columns) {
  const bool masked = columns < tile.columns;
  call.mask = masked ? mask_of(columns) : nullptr;
  const bool has_bytes = tile.bytes || call.byte_residual != nullptr;
  if (masked && has_bytes && !tile.masks_bytes) return call_beside(tile, call, columns);
  run_kernel(tile, call, masked);
}

// One row of tiles over a few panels, as its parts see it.
struct TileRow {
  const QgemmTile& tile;
  const Places& places;
  const At at;
  QgemmCall& call;
};

// What becomes of the sums that the matrix unit has left for one panel, a few rows at a time.
void finish_panel(const TileRow& r, const int32_t* sums, const At& at, int64_t rows,
                  int64_t columns) {
  const bool masked = columns < kMatrixColumns;
  r.call.mask = masked ? mask_of(columns) : nullptr;
  for (int64_t i = 0; i < rows; i += r.call.rows) {
    r.call.rows = std::min<int64_t>(rows - i, QgemmTile::kFinishRows);
    r.places.put(r.call, {at.row + i, at.column});
    r.call.a = moved(sums, i * r.call.a_stride);
    r.tile.finish[r.call.rows][masked](&r.call);
  }
}

// Sums on the matrix unit first; the call is as before then, but for its places.
void call_matrix(const TileRow& r, const At& at, int panels, int64_t columns) {
  alignas(64) int32_t sums[QgemmTile::kMaxRows * kMatrixColumns];
  const int64_t pitch = panels * kMatrixColumns;  // two panels only of half the rows
  const int64_t rows = r.call.rows;
  r.call.c = sums;
  r.call.c_stride = pitch * int64_t{sizeof(int32_t)};
  (panels > 1 ? r.tile.many[rows] : r.tile.one[rows][0])(&r.call);
  r.call.a_stride = r.call.c_stride;
  r.call.c_stride = r.places.first().c_stride;
  for (int panel = 0; panel < panels; ++panel) {
    const int64_t before = panel * kMatrixColumns;
    const int64_t here = std::min<int64_t>(columns - before, kMatrixColumns);
    finish_panel(r, sums + before, {at.row, at.column + before}, rows, here);
  }
  r.call.a_stride = r.places.first().a_stride;
  r.call.rows = rows;
}

void multiply_rows(const TileRow& r, int64_t columns) {
  const int wide = r.tile.panels[r.call.rows];
  for (int64_t done = 0; done < columns;) {
    const int64_t left = columns - done;
    const bool many = wide > 1 && left >= wide * r.tile.columns;
    const int panels = many ? wide : 1;
    const At at{r.at.row, r.at.column + done};
    r.places.put(r.call, at);
    if (r.tile.unit == QgemmUnit::tiles) {
      call_matrix(r, at, panels, left);
    } else if (many) {
      r.tile.many[r.call.rows](&r.call);
    } else {
      call_one(r.tile, r.call, std::min<int64_t>(left, r.tile.columns));
    }
    done += panels * r.tile.columns;
  }
}

// Equal heights rather than full tiles and a thin rest.
struct Heights {
  Heights(int64_t rows, int most)
      : tiles(ceil_div(rows, most)), low(rows / tiles), higher(rows % tiles) {}
  int64_t of(int64_t tile) const { return low + (tile < higher); }
  // Tiles of this height from here on.
  int64_t alike(int64_t tile) const { return (tile < higher ? higher : tiles) - tile; }
  int64_t tiles, low, higher;
};

void prefetch_a(const QgemmCall& first, int64_t row, int64_t rows, int64_t group) {
  const int64_t bytes = first.groups * group + first.tail;
  const char* from = static_cast<const char*>(first.a) + row * first.a_stride;
  for (int64_t i = 0; i < rows; ++i, from += first.a_stride) {
    for (int64_t j = 0; j < bytes; j += 64) _mm_prefetch(from + j, _MM_HINT_T1);
  }
}

void add_kernels(QgemmTile& tile, QgemmRecipe recipe) {
  const int r = recipe.rows;
  tile.one[r][0] = qgemm_kernel(recipe);
  recipe.masked = true;
  if (recipe.unit != QgemmUnit::words) tile.one[r][1] = qgemm_kernel(recipe);
  tile.masks_bytes = masks_bytes(recipe.isa);
  tile.loops = loops_over_tiles(recipe);
  recipe.masked = false;
  recipe.panels = tile.panels[r] = panels_for(recipe);
  if (recipe.unit == QgemmUnit::pairs) {
    QgemmRecipe other = recipe;
    for (const bool masked : {false, true}) {
      other.masked = masked;
      other.unit = QgemmUnit::quads;
      tile.any[r][masked] = qgemm_kernel(other);
      other.unit = QgemmUnit::fours;
      tile.fours[r][masked] = qgemm_kernel(other);
    }
  }
  if (recipe.panels > 1) tile.many[r] = qgemm_kernel(recipe);
}

void add_matrix_kernels(QgemmTile& tile) {
  if (tile.rows != kMatrixRows || tile.columns != kMatrixColumns) {
    throw InternalError("matrix tiles have 32 x 32 sums");
  }
  for (int r = 1; r <= tile.rows; ++r) {
    tile.one[r][0] = matrix_kernel(r, 1);
    tile.panels[r] = matrix_panels(r);
    if (tile.panels[r] > 1) tile.many[r] = matrix_kernel(r, tile.panels[r]);
  }
  QgemmRecipe recipe{.isa = Isa::avx512, .unit = QgemmUnit::sums, .bytes = tile.bytes};
  for (recipe.rows = 1; recipe.rows <= QgemmTile::kFinishRows; ++recipe.rows) {
    for (const bool masked : {false, true}) {
      recipe.masked = masked;
      tile.finish[recipe.rows][masked] = qgemm_kernel(recipe);
    }
  }
}

// The matrix unit's shapes for the rows of one call after another; given back at the end.
class MatrixUse {
 public:
  explicit MatrixUse(const QgemmTile& tile) : used_(tile.unit == QgemmUnit::tiles) {}
  ~MatrixUse() {
    if (used_) release_matrix();
  }
  MatrixUse(const MatrixUse&) = delete;
  MatrixUse& operator=(const MatrixUse&) = delete;
  void need(int64_t rows) {
    if (!used_ || rows == rows_) return;
    configure_matrix(static_cast<int>(rows));
    rows_ = rows;
  }

 private:
  bool used_;
  int64_t rows_ = 0;
};

QgemmFn portable_kernel(QgemmUnit unit, bool bytes) {
  if (unit == QgemmUnit::words) return qgemm_portable_words;
  if (unit == QgemmUnit::sums) return bytes ? qgemm_portable_sums_bytes : qgemm_portable_sums;
  return bytes ? qgemm_portable_bytes : qgemm_portable;
}

}  // namespace

QgemmTile qgemm_tile(Isa isa, QgemmUnit unit, int rows, int columns, bool bytes) {
  QgemmTile tile;
  tile.rows = rows;
  tile.columns = columns;
  tile.bytes = bytes;
  tile.unit = unit;
  if (unit == QgemmUnit::tiles) {
    add_matrix_kernels(tile);
    return tile;
  }
  if (unit == QgemmUnit::pairs && rows > QgemmTile::kProvenRows) {
    throw InternalError("tiles of pairs have up to ", QgemmTile::kProvenRows, " rows");
  }
  for (int r = 1; r <= rows; ++r) {
    tile.panels[r] = 1;
    if (isa == Isa::portable) {
      if (columns != kQPortableColumns) throw InternalError("portable panels have 16 columns");
      tile.one[r][0] = tile.one[r][1] = portable_kernel(unit, bytes);
      continue;
    }
    const bool half = isa >= Isa::avx512 && columns % vector_floats(isa) != 0;
    const int vectors = columns / (half ? vector_floats(Isa::avx2) : vector_floats(isa));
    add_kernels(
        tile,
        {.isa = isa, .half = half, .unit = unit, .rows = r, .vectors = vectors, .bytes = bytes});
  }
  return tile;
}

void move_rows(QgemmCall& call, int64_t rows) {
  move(call.a, rows * call.a_stride);
  move(call.c, rows * call.c_stride);
  move(call.offset, rows * call.offset_stride);
  move(call.residual, rows * call.residual_stride);
  move(call.byte_residual, rows * call.byte_residual_stride);
}

// Panels outside, rows inside: the panel of B stays near while the rows of A pass by from L2.
void multiply(const QgemmTile& tile, const QgemmBlock& block) {
  if (block.rows <= 0 || block.columns <= 0) return;
  const Heights heights(block.rows, tile.rows);
  const int64_t step = tile.panels[heights.low] * tile.columns;
  const Places places(tile, block);
  QgemmCall call = block.call;
  call.b_stride = call.panel_bytes = block.panel_stride;
  // A few prefetches for every four groups of every call: spread the bytes over all of them.
  const int64_t calls = heights.tiles * ceil_div(block.columns, step);
  const int64_t rate =
      tile.unit == QgemmUnit::tiles ? 4 * kMatrixPrefetches : prefetches_of(tile.unit);
  const int64_t prefetches = std::max<int64_t>(1, call.groups * rate / 4 * call.lines);
  call.prefetch_step = ceil_div(block.prefetch_bytes, calls * prefetches);
  // Without a wish prefetch what is there: an address that is not mapped costs a page walk.
  const void* next = block.prefetch != nullptr ? block.prefetch : call.c;
  MatrixUse matrix(tile);
  for (int64_t column = 0; column < block.columns; column += step) {
    for (int64_t t = 0, row = 0; t < heights.tiles;
         t += call.tiles, row += call.rows * call.tiles) {
      call.rows = heights.of(t);
      call.tiles = tile.loops && !(block.a_is_far && column == 0) ? heights.alike(t) : 1;
      call.prefetch = next;
      if (block.a_is_far && column == 0 && t + 1 < heights.tiles) {
        prefetch_a(block.call, row + call.rows, heights.of(t + 1), group_of(tile.unit));
      }
      matrix.need(call.rows);
      multiply_rows({tile, places, {row, column}, call}, std::min(step, block.columns - column));
      move(next, call.prefetch_step * prefetches * call.tiles);
    }
  }
}

}  // namespace planck::jit
