#pragma once
#include <cstdint>

#include "kernels/job.h"
#include "kernels/simd/row_blocks.h"

namespace planck {

inline constexpr int kEmbedTables = 3;
// Elements of a tile, and of the smallest where a step has several. Rows come from memory, and the
// step is often the first of a run, for which the other workers are still waking up: the small tile
// that one of them takes late is soon done.
inline constexpr int64_t kEmbedTile = 2048, kLeastEmbedTile = 1024;

// The id of row r is the element at (r / inner) * outer_stride + (r % inner) * inner_stride, so
// that ids [batch, length], [1, length] (outer_stride 0) and single ones (both 0) are all views.
struct EmbedIds {
  const void* data;                    // null: always row 0 of the table (a constant row)
  int32_t bytes;                       // of one id: 4 (int32) or 8 (int64)
  int64_t inner;                       // at least 1
  int64_t outer_stride, inner_stride;  // in ids
};

struct EmbedTable {
  const float* data;  // [rows, n]
  int64_t rows, row_stride;
  EmbedIds ids;
};

// out[r] = (table 0 row + table 1 row) + table 2 row, then LayerNorm (norm/norm.h) if `normalize`.
// A negative id counts from the end of its table. Ids outside the table, which the caller refuses
// with first_bad_id, are never followed: their row becomes NaN.
struct EmbedArgs {
  EmbedTable tables[kEmbedTables];
  int32_t count;  // tables in use, 1 .. kEmbedTables
  bool normalize;
  const float* gain;    // [n], may be null
  const float* offset;  // [n], may be null
  float eps;
  float* out;
  int64_t rows, n, out_stride;
};

static inline int64_t rows_of_tile(const EmbedArgs& args) {
  return rows_of_equal_tile(args.rows, args.n, kEmbedTile, kLeastEmbedTile);
}

#define PLANCK_EMBED(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/embed/kernels.inc"
#undef PLANCK_EMBED

}  // namespace planck
