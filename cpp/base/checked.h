#pragma once
// The one place where sizes that come from a model or a caller are multiplied and added.
#include <cstdint>
#include <span>

#include "base/error.h"

namespace planck {

inline int64_t checked_mul(int64_t a, int64_t b, const char* what = "size") {
  int64_t out;
  if (__builtin_mul_overflow(a, b, &out)) {
    throw GraphError(what, ": ", a, " x ", b, " does not fit 64 bits");
  }
  return out;
}

inline int64_t checked_add(int64_t a, int64_t b, const char* what = "size") {
  int64_t out;
  if (__builtin_add_overflow(a, b, &out)) {
    throw GraphError(what, ": ", a, " + ", b, " does not fit 64 bits");
  }
  return out;
}

// Number of elements of a shape; a negative extent is an error.
inline int64_t checked_count(std::span<const int64_t> dims, const char* what = "shape") {
  int64_t count = 1;
  bool empty = false;
  for (const int64_t d : dims) {
    if (d < 0) throw GraphError(what, " has the negative extent ", d);
    if (d == 0) empty = true;
    count = checked_mul(count, d == 0 ? 1 : d, what);
  }
  return empty ? 0 : count;
}

// Bytes of a tensor, INT64_MAX where they do not fit: for comparing with a limit.
inline int64_t saturated_bytes(std::span<const int64_t> dims, int64_t element) {
  int64_t bytes = element;
  for (const int64_t d : dims) {
    if (d < 0) throw GraphError("a shape has the negative extent ", d);
    if (d == 0) return 0;
    if (__builtin_mul_overflow(bytes, d, &bytes)) bytes = INT64_MAX;
  }
  return bytes;
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t to) { return ceil_div(a, to) * to; }

}  // namespace planck
