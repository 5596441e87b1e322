#pragma once
// Which taps of a window lie inside the picture. Inlined always, since ISA files include it.
#include <cstdint>

#include "kernels/window.h"

namespace planck {

// Taps [from, to) of an axis.
struct Taps {
  int64_t from, to;
};

// For the window whose first tap lies at `first`, perhaps outside. Most windows are not dilated,
// and a division costs more than what many of them add up.
[[gnu::always_inline]] inline Taps taps_inside(const WindowSteps& axis, int64_t first) {
  const int64_t d = axis.dilation;
  const int64_t inside = axis.in - first;
  int64_t from = first < 0 ? (d == 1 ? -first : (-first + d - 1) / d) : 0;
  int64_t to = inside <= 0 ? 0 : d == 1 ? inside : (inside + d - 1) / d;
  if (to > axis.kernel) to = axis.kernel;
  if (from > to) from = to;
  return {from, to};
}

}  // namespace planck
