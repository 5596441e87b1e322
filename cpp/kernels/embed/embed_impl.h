#pragma once
#include "kernels/embed/embed_ids.h"
#include "kernels/norm/row_norm.h"

namespace planck {
namespace {

void fill_nan(float* out, int64_t n) {
  for (int64_t c = 0; c < n; ++c) out[c] = kNan;
}

// out = the sum of 1 to 3 rows; returns the sum of its elements.
float gather(const float* const* from, int count, float* out, int64_t n) {
  if (count == 3) return add_rows<true>(from[0], from[1], from[2], out, n);
  if (count == 2) return add_rows<false>(from[0], from[1], nullptr, out, n);
  __builtin_memcpy(out, from[0], static_cast<size_t>(n) * sizeof(float));
  return sum_row(out, n);
}

void run_row(const EmbedArgs& a, int64_t row) {
  const float* from[kEmbedTables];
  float* out = a.out + row * a.out_stride;
  for (int t = 0; t < a.count; ++t) {
    const EmbedTable& table = a.tables[t];
    // One read of the id: a caller that changes it meanwhile cannot get past the check.
    const int64_t at = table_row(read_id(table.ids, row), table.rows);
    if (at < 0) return fill_nan(out, a.n);
    from[t] = table.data + at * table.row_stride;
  }
  const float sum = gather(from, a.count, out, a.n);
  if (a.normalize) normalize_row(out, out, a.n, sum, a.gain, a.offset, a.eps);
}

void prefetch_tile(const EmbedArgs& a, int64_t tile) {
  const int64_t block = rows_of_tile(a);
  const int64_t first = tile * block;
  const int64_t last = first + block < a.rows ? first + block : a.rows;
  for (int64_t row = first; row < last; ++row) {
    for (int t = 0; t < a.count; ++t) {
      const EmbedTable& table = a.tables[t];
      const int64_t at = table_row(read_id(table.ids, row), table.rows);
      if (at >= 0) prefetch_row(table.data + at * table.row_stride, a.n);
    }
  }
}

// Tickets go round: this worker's next tile is likely to lie `workers` behind this one.
void run_tile(const EmbedArgs& a, int64_t tile, int64_t workers) {
  const int64_t block = rows_of_tile(a);
  const int64_t first = tile * block;
  const int64_t last = first + block < a.rows ? first + block : a.rows;
  if (tile < workers) prefetch_tile(a, tile);
  prefetch_tile(a, tile + workers);
  for (int64_t row = first; row < last; ++row) run_row(a, row);
}

}  // namespace
}  // namespace planck
