#pragma once
// From the micro-kernel to a block: any number of rows times any number of packed panels.
#include <cstdint>

#include "kernels/jit/gemm.h"

namespace planck::jit {

// The kernels of one register tile for every height up to its own. A plan holds them by value.
struct GemmTile {
  static constexpr int kMaxRows = 16;
  int rows = 0, columns = 0;          // of the full tile; a panel has `columns` columns
  GemmFn one[kMaxRows + 1][2] = {};   // [rows][masked]: one panel
  GemmFn many[kMaxRows + 1] = {};     // `panels` of them at once, which fill the FMA pipelines
  int panels[kMaxRows + 1] = {};      // 1 where one panel fills them
  int prefetches[kMaxRows + 1] = {};  // of such a call, in every four k
  bool once = false;                  // as in GemmRecipe
  bool pairs = false;                 // the same; rows of the tile are pairs
  // Instead of all these, where lanes are rows: kernels for any number of rows of one panel, by how
  // many of its columns exist.
  const GemmFn* any_rows = nullptr;
};

// Whether B comes from memory and is read once (GemmRecipe): then one panel at a time is fastest,
// as it is one stream, unless so many rows of A go by with each that L1 does not keep them.
enum class Stream : uint8_t { none, together, alone };

// AVX-512 takes vectors of 16 columns, or of 8 where the columns are no multiple of 16.
GemmTile gemm_tile(Isa isa, int rows, int columns, Stream stream = Stream::none);
// So many pairs of rows, without kernels before `specialize`.
GemmTile pair_tile(int pairs, int columns);

// What is multiplied with one tile: blocks of at most two heights, all of `columns` columns.
struct GemmBlocks {
  int64_t rows[2] = {};  // of a block; 0: no such block
  int64_t columns = 0;
};
// How A lies, where it is no matrix: in lines of taps, its rows anywhere.
struct GemmSource {
  bool lines = false, scattered = false;
  bool streams = false;  // and how C is written, as in GemmRecipe
};
// Puts kernels for such an A, or that end in an epilogue, in the place of those that such blocks
// need; the tile has no others then. False where there are too many kernels with epilogues: the
// tile is as it was.
bool specialize(GemmTile& tile, Isa isa, const GemmSource& source, const Epilogue& epilogue,
                const GemmBlocks& blocks);
// Of packed B, for one k.
constexpr int64_t panel_floats(const GemmTile& tile) {
  return (tile.pairs ? 2 : 1) * int64_t{tile.columns};
}
// Whether kernels of the tile know how many columns the last panel has.
constexpr bool knows_columns(Isa isa) { return isa == Isa::avx2; }
// Whether a tile has kernels for rows that lie anywhere.
bool takes_scattered(const GemmTile& tile, Isa isa, int64_t columns);

// Where A comes in lines: the pieces of rows [i * rows, (i + 1) * rows) that are not all zeros are
// [first - i * step, end - i * step), as far as there are such; the others are not multiplied.
// No rows: none is left out.
struct GemmInside {
  int64_t rows = 0, first = 0, end = 0, step = 0;
};
// The pieces that rows [row, row + rows) of a block need, one at least; `lines` in all.
struct GemmPieces {
  int64_t first, count;
  bool operator==(const GemmPieces&) const = default;
};
GemmPieces pieces_of(const GemmInside& inside, int64_t row, int64_t rows, int64_t lines);

// C [rows, columns] = A [rows, k] x B, where B is packed in panels of [k][tile columns].
struct GemmBlock {
  GemmCall call;             // the first row and column; mask and prefetch are filled in here
  int64_t rows = 0;          // of A and C; or pairs of them
  int64_t columns = 0;       // of C; the last panel may be partial
  int64_t panel_stride = 0;  // floats from panel to panel, at least k * panel_floats
  // Brought into L2 while this block is computed, evenly over it: what the core works on next.
  const float* prefetch = nullptr;
  int64_t prefetch_bytes = 0;
  const float* prefetch_then = nullptr;  // and behind it
  int64_t prefetch_then_bytes = 0;
  // A was written by another core a moment ago: its rows are asked for one tile ahead, since lines
  // that come from a neighbour's L2 one after the other would keep the kernel waiting.
  bool a_is_far = false;
  GemmInside inside;  // of scattered rows
  // C is in the cache: panels are taken one by one, each with all rows, however short they are.
  bool c_is_near = false;
};

// Asks for the lines of rows [0, rows) x [0, columns) to come to L2.
void prefetch_rows(const float* first, int64_t stride, int64_t rows, int64_t columns);

void multiply(const GemmTile& tile, const GemmBlock& block);

}  // namespace planck::jit
