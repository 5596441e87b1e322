#pragma once
// How indices are read and judged; internal linkage, for kernels and rows.cpp alike.
#include "kernels/index/index.h"

namespace planck {
namespace {

inline int64_t index_at(const IndexArgs& a, int64_t at) {
  return a.index_bytes == 8 ? static_cast<const int64_t*>(a.indices)[at]
                            : static_cast<const int32_t*>(a.indices)[at];
}

// Not negative, or -1 where it lies outside.
inline int64_t place_in(int64_t index, int64_t extent) {
  if (index < -extent || index >= extent) return -1;
  return index < 0 ? index + extent : index;
}

// Where the run of row r begins, or -1. Each index is read once: a caller that changes it meanwhile
// cannot get past the check.
inline int64_t place_of(const IndexArgs& a, int64_t r) {
  const int64_t first = (a.repeat ? r % a.block : r) * a.width;
  int64_t at = r / a.block * a.block_step + r % a.period * a.period_step;
  for (int32_t k = 0; k < a.width; ++k) {
    const int64_t place = place_in(index_at(a, first + k), a.extents[k]);
    if (place < 0) return -1;
    at += place * a.steps[k];
  }
  return at;
}

}  // namespace
}  // namespace planck
