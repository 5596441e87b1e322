#pragma once
// A region along one axis. Internal linkage: each ISA file has its own copy.
#include "kernels/roi_align/roi_align.h"

namespace planck {
namespace {

struct Side {
  double start, extent;
};

inline Side side_of(const RoiAlignArgs& a, float from, float to) {
  const double shift = a.half_pixel ? 0.5 : 0;
  const double start = static_cast<double>(from) * a.scale - shift;
  double extent = static_cast<double>(to) * a.scale - shift - start;
  if (!a.half_pixel && extent < 1) extent = 1;
  return {start, extent};
}

// Elements of a list of taps: two for each sample that may lie inside.
inline int64_t most_taps(const RoiAlignArgs& a, int64_t length) {
  return 2 * (a.samples > 0 ? a.samples : 2 * length + 8);
}

struct RoiTap {
  int64_t at;
  float weight;
};

inline constexpr int64_t kRoiCells = 8;  // that are turned into planes at once

}  // namespace
}  // namespace planck
