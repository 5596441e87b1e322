#pragma once
// A tile of a product, whichever way its rows of A come: where its C and operands lie, the block
// that kernels are called with, the kernels, and the program behind them.
#include <cstdint>

#include "kernels/job.h"
#include "kernels/matmul/rows.h"

namespace planck {

// Below this many the rows are cut further, although each panel is then read more than once.
inline constexpr int64_t kFewTiles = 16;
// Windows are gathered again for every group of panels: as few groups as keep a team busy.
inline constexpr int64_t kGatherTiles = 8;
// Weights that are read once: workers take neighbouring tiles, so that few are enough to end
// together.
int64_t stream_tiles(const MatmulArgs& args);

// Of the batch.
struct MatmulItem {
  const float *a, *b;
  float* c;
  const float* residual;
  EltOperand operands[kEltOperands];
};
MatmulItem item_of(const MatmulArgs& args, int64_t index);

// Of C.
struct MatmulArea {
  int64_t row, column, rows, columns;
};

// Where the floats of a tile's C lie.
struct TileC {
  float* first;
  int64_t stride;
};
TileC c_of(const MatmulArgs& args, const MatmulItem& item, const MatmulArea& area,
           const Worker& worker);
// Room for C of one tile behind all else in scratch.
void add_c(MatmulArgs& args, int64_t rows);

// Rows of A that lie a multiple of a way of L1 apart share a set at every k: a register tile then
// has no more of them than the set has lines, one of which is for B. `stride` is from row to row.
void keep_rows_in_l1(MatmulArgs& args, int64_t stride);

// The kernels for such blocks, and who runs the program: they, by a function of theirs or by code
// made for it, or else a pass over each tile of C.
void plan_kernels(const MatmulRow& row, MatmulArgs& args, const jit::GemmSource& source,
                  const jit::GemmBlocks& blocks);

// The area as kernels take it; where B begins is the caller's.
jit::GemmBlock block_of(const MatmulArgs& args, const MatmulItem& item, const MatmulArea& area,
                        const TileC& c);
// What the last K block does with its sums.
int64_t last_flags(const MatmulArgs& args);
// Streaming kernels take C that begins at a line.
const jit::GemmTile& tile_for(const MatmulArgs& args, const jit::GemmBlock& block);
// The tile that this worker is likely to take next: tickets go round.
int64_t tile_after(const MatmulArgs& args, int64_t tile, const Worker& worker);

void run_program(const MatmulArgs& args, const MatmulItem& item, const MatmulArea& area,
                 const TileC& c);

}  // namespace planck
