#pragma once
// From the integer micro-kernel to a block: any number of rows times any number of packed panels.
#include <cstdint>

#include "kernels/jit/qgemm.h"

namespace planck::jit {

// The kernels of one register tile for every height up to its own. A plan holds them by value.
struct QgemmTile {
  static constexpr int kMaxRows = 32, kMaxColumns = 64;
  int rows = 0, columns = 0;  // of the full tile; a panel has `columns` columns
  QgemmUnit unit = QgemmUnit::vnni;
  bool bytes = false;                 // u8 output
  bool loops = false;                 // over tiles below each other
  bool masks_bytes = true;            // see qgemm.h
  QgemmFn one[kMaxRows + 1][2] = {};  // [rows][masked]: one panel
  QgemmFn many[kMaxRows + 1] = {};    // `panels` of them at once, which fill the pipelines
  int panels[kMaxRows + 1] = {};      // 1 where one panel fills them
  // For the panels that `one` of pairs cannot take, and for those of which more is proven: see
  // qproofs.h.
  static constexpr int kProvenRows = 4;
  QgemmFn any[kProvenRows + 1][2] = {}, fours[kProvenRows + 1][2] = {};
  // On the matrix unit `one` and `many` give sums, and these finish a few rows of a panel each.
  static constexpr int kFinishRows = 8;
  QgemmFn finish[kFinishRows + 1][2] = {};
};

// isa portable: the kernels in C++, and no unit but words and sums. Words take whole panels alone.
QgemmTile qgemm_tile(Isa isa, QgemmUnit unit, int rows, int columns, bool bytes);

// C [rows, columns] = A [rows, k] x B, where B is packed in panels.
struct QgemmBlock {
  QgemmCall call;            // the first row and column; mask and prefetch are filled in here
  int64_t rows = 0;          // of A and C
  int64_t columns = 0;       // of C; the last panel may be partial
  int64_t panel_stride = 0;  // bytes from panel to panel
  // Brought into L2 while this block is computed, evenly over it: what the core works on next.
  const int8_t* prefetch = nullptr;
  int64_t prefetch_bytes = 0;
  // A was written by another core a moment ago: its rows are asked for one tile ahead.
  bool a_is_far = false;
};

void multiply(const QgemmTile& tile, const QgemmBlock& block);

// The call for what lies `rows` rows further on.
void move_rows(QgemmCall& call, int64_t rows);

}  // namespace planck::jit
