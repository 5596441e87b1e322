#pragma once
// How rows are grouped into tiles; plain arithmetic, shared by rows.cpp and ISA files.
#include <cstdint>

namespace planck {

// Rows of n floats in one tile of about `elements`, at least 1. Static: an inline function would be
// a weak symbol in ISA files.
static constexpr int64_t rows_of_tile(int64_t n, int64_t elements) {
  return n <= 0 || n >= elements ? 1 : elements / n;
}

// At most as many, where `rows` of them make a multiple of four about equal tiles, so that a few
// cores end together. A tile of fewer than `least` elements is not worth its ticket.
static constexpr int64_t rows_of_equal_tile(int64_t rows, int64_t n, int64_t elements,
                                            int64_t least) {
  constexpr int64_t kTiles = 4;
  const int64_t most = rows_of_tile(n, elements);
  if (rows <= most) return most;
  const int64_t tiles = ((rows + most - 1) / most + kTiles - 1) / kTiles * kTiles;
  const int64_t equal = (rows + tiles - 1) / tiles, fewest = rows_of_tile(n, least);
  return equal > fewest ? equal : fewest;
}

// Asks for a row of n floats, so that rows which lie in memory or in another core's cache come
// together and not one line after the other.
static inline void prefetch_row(const float* x, int64_t n) {
  constexpr int64_t kLine = 16;
  for (int64_t c = 0; c < n; c += kLine) __builtin_prefetch(x + c);
}

}  // namespace planck
