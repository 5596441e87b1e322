#include "kernels/jit/qblock.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cstring>

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
  const int sums = recipe.unit == QgemmUnit::vnni ? 12 : 8;
  return std::max(1, sums / (recipe.rows * recipe.vectors));
}

int64_t c_bytes(const QgemmTile& tile) { return tile.bytes ? 1 : 4; }

template <class T>
void move(T*& pointer, int64_t bytes) {
  if (pointer == nullptr) return;
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  pointer = reinterpret_cast<T*>(reinterpret_cast<Byte*>(pointer) + bytes);
}

void move_columns(const QgemmTile& tile, QgemmCall& call, int64_t columns) {
  move(call.c, columns * c_bytes(tile));
  call.offset += columns;
  call.multiplier += columns;
  if (call.bias != nullptr) call.bias += columns;
  if (call.residual != nullptr) call.residual += columns;
  if (call.byte_residual != nullptr) call.byte_residual += columns;
}

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
void call_beside(const QgemmTile& tile, QgemmCall call, int64_t columns) {
  constexpr int64_t kBytes = int64_t{QgemmTile::kMaxRows} * QgemmTile::kMaxColumns;
  alignas(64) uint8_t c_place[kBytes], residual_place[kBytes];
  const ByteRows c{static_cast<uint8_t*>(call.c), call.c_stride}, c_beside{c_place, tile.columns};
  if (call.byte_residual != nullptr) {
    const ByteRows beside{residual_place, tile.columns};
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
  if (tile.bytes) copy_bytes(c_beside, c, call.rows, columns);
}

// Sums of a row of tiles on the matrix unit, then what becomes of them, a few rows of one panel at
// a time.
void call_matrix(const QgemmTile& tile, const QgemmCall& call, int panels, int64_t columns) {
  alignas(64) int32_t sums[QgemmTile::kMaxRows * kMatrixColumns];
  const int64_t pitch = panels * kMatrixColumns;  // two panels only of half the rows
  QgemmCall product = call;
  product.c = sums;
  product.c_stride = pitch * int64_t{sizeof(int32_t)};
  (panels > 1 ? tile.many[call.rows] : tile.one[call.rows][0])(&product);
  QgemmCall finish = call;
  for (int panel = 0; panel < panels; ++panel) {
    const int64_t here = std::min<int64_t>(columns - panel * kMatrixColumns, kMatrixColumns);
    finish.mask = here < kMatrixColumns ? mask_of(here) : nullptr;
    QgemmCall rows = finish;
    rows.a = sums + panel * kMatrixColumns;
    rows.a_stride = product.c_stride;
    for (int64_t at = 0; at < call.rows; at += rows.rows) {
      rows.rows = std::min<int64_t>(call.rows - at, QgemmTile::kFinishRows);
      tile.finish[rows.rows][finish.mask != nullptr](&rows);
      move_rows(rows, rows.rows);
    }
    move_columns(tile, finish, kMatrixColumns);
  }
}

void call_one(const QgemmTile& tile, QgemmCall& call, int64_t columns) {
  const bool masked = columns < tile.columns;
  call.mask = masked ? mask_of(columns) : nullptr;
  const bool has_bytes = tile.bytes || call.byte_residual != nullptr;
  if (masked && has_bytes && !tile.masks_bytes) return call_beside(tile, call, columns);
  run_kernel(tile, call, masked);
}

// One row of tiles over a few panels.
void multiply_rows(const QgemmTile& tile, const QgemmBlock& block, QgemmCall call,
                   int64_t columns) {
  const int wide = tile.panels[call.rows];
  call.mask = nullptr;
  for (int64_t at = 0; at < columns;) {
    const int64_t left = columns - at;
    const bool many = wide > 1 && left >= wide * tile.columns;
    if (tile.unit == QgemmUnit::tiles) {
      call_matrix(tile, call, many ? wide : 1, left);
    } else if (many) {
      tile.many[call.rows](&call);
    } else {
      call_one(tile, call, std::min<int64_t>(left, tile.columns));
    }
    const int panels = many ? wide : 1;
    move_columns(tile, call, panels * tile.columns);
    call.b += panels * block.panel_stride;
    at += panels * tile.columns;
  }
}

// Equal heights rather than full tiles and a thin rest.
struct Heights {
  Heights(int64_t rows, int most)
      : tiles(ceil_div(rows, most)), low(rows / tiles), higher(rows % tiles) {}
  int64_t of(int64_t tile) const { return low + (tile < higher); }
  int64_t tiles, low, higher;
};

void prefetch_a(const QgemmCall& call, int64_t group, int64_t rows) {
  const int64_t bytes = call.groups * group + call.tail;
  const char* row = static_cast<const char*>(call.a) + call.rows * call.a_stride;
  for (int64_t i = 0; i < rows; ++i, row += call.a_stride) {
    for (int64_t j = 0; j < bytes; j += 64) _mm_prefetch(row + j, _MM_HINT_T1);
  }
}

void add_kernels(QgemmTile& tile, QgemmRecipe recipe) {
  const int r = recipe.rows;
  tile.one[r][0] = qgemm_kernel(recipe);
  recipe.masked = true;
  tile.one[r][1] = qgemm_kernel(recipe);
  tile.masks_bytes = masks_bytes(recipe.isa);
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
      tile.one[r][0] = tile.one[r][1] = bytes ? qgemm_portable_bytes : qgemm_portable;
      continue;
    }
    const int vectors = columns / vector_floats(isa);
    add_kernels(tile, {.isa = isa, .unit = unit, .rows = r, .vectors = vectors, .bytes = bytes});
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
  QgemmCall column = block.call;
  // One prefetch for every four groups of every call: spread the bytes over all of them.
  const int64_t calls = heights.tiles * ceil_div(block.columns, step);
  const int64_t rate = tile.unit == QgemmUnit::tiles ? 4 * kMatrixPrefetches : 1;
  const int64_t prefetches = std::max<int64_t>(1, column.groups * rate / 4 * column.lines);
  const int64_t prefetch_step = ceil_div(block.prefetch_bytes, calls * prefetches);
  // Without a wish prefetch what is there: an address that is not mapped costs a page walk.
  const void* next = block.prefetch != nullptr ? block.prefetch : column.c;
  column.prefetch_step = prefetch_step;
  column.b_stride = column.panel_bytes = block.panel_stride;
  const bool one_panel = step == tile.columns && tile.unit != QgemmUnit::tiles;
  MatrixUse matrix(tile);
  for (int64_t at = 0; at < block.columns; at += step) {
    QgemmCall call = column;
    for (int64_t t = 0; t < heights.tiles; ++t) {
      call.rows = heights.of(t);
      call.prefetch = next;
      if (block.a_is_far && at == 0 && t + 1 < heights.tiles) {
        prefetch_a(call, group_of(tile.unit), heights.of(t + 1));
      }
      matrix.need(call.rows);
      const int64_t columns = std::min(step, block.columns - at);
      if (one_panel) {  // without a copy of the call: for a short k that counts
        call_one(tile, call, columns);
      } else {
        multiply_rows(tile, block, call, columns);
      }
      move_rows(call, call.rows);
      move(next, prefetch_step * prefetches);
    }
    move_columns(tile, column, step);
    column.b += step / tile.columns * block.panel_stride;
  }
}

}  // namespace planck::jit
