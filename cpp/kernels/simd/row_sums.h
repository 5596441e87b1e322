#pragma once
// Reductions over a row of any length in a fixed order: vector i of 16 goes to accumulator i % 4,
// the last one is filled with neutral lanes, then (0 + 1) + (2 + 3), then the tree of sum_lanes.
// So 64 partial sums, whatever the ISA. Included after a vector header; internal linkage.
#include <cstdint>

namespace planck {
namespace {

// Calls visit(column, lanes, accumulator) for each vector of a row; lanes is 16 except at the end.
// Accumulators are literals, so that arrays indexed by them stay in registers.
template <class Visit>
PLANCK_INLINE void for_vectors(int64_t n, Visit visit) {
  int64_t c = 0;
  for (; c + 64 <= n; c += 64) {
    visit(c, 16, 0);
    visit(c + 16, 16, 1);
    visit(c + 32, 16, 2);
    visit(c + 48, 16, 3);
  }
  const int64_t left = n - c;
  if (left > 0) visit(c, left < 16 ? left : 16, 0);
  if (left > 16) visit(c + 16, left < 32 ? left - 16 : 16, 1);
  if (left > 32) visit(c + 32, left < 48 ? left - 32 : 16, 2);
  if (left > 48) visit(c + 48, left - 48, 3);
}

PLANCK_INLINE F16 load_lanes(const float* p, int64_t lanes) {
  return lanes == 16 ? load(p) : load_first(p, lanes);
}
PLANCK_INLINE void store_lanes(float* p, F16 x, int64_t lanes) {
  if (lanes == 16) {
    store(p, x);
  } else {
    store_first(p, x, lanes);
  }
}
// x, with the lanes from `lanes` on replaced.
PLANCK_INLINE F16 keep_lanes(F16 x, int64_t lanes, F16 other) {
  return lanes == 16 ? x : select(first_lanes(lanes), x, other);
}
PLANCK_INLINE float sum_of(const F16 (&s)[4]) { return sum_lanes((s[0] + s[1]) + (s[2] + s[3])); }

}  // namespace
}  // namespace planck
