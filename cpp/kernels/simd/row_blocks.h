#pragma once
// How rows are grouped into tiles; plain arithmetic, shared by rows.cpp and ISA files.
#include <cstdint>

namespace planck {

// Rows of n floats in one tile of about `elements`, at least 1. Static: an inline function would be
// a weak symbol in ISA files.
static constexpr int64_t rows_of_tile(int64_t n, int64_t elements) {
  return n <= 0 || n >= elements ? 1 : elements / n;
}

}  // namespace planck
