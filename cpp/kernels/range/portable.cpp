#include <algorithm>

#include "kernels/range/range.h"

namespace planck {
namespace {

// Unsigned, so that it wraps.
template <class T>
void fill(const RangeArgs& a, int64_t first, int64_t last) {
  auto* out = static_cast<T*>(a.out);
  const auto start = static_cast<T>(a.start), step = static_cast<T>(a.step);
  for (int64_t i = first; i < last; ++i) out[i] = start + static_cast<T>(i) * step;
}

}  // namespace

void range_int_2048_portable(const void* args, int64_t tile, const Worker&) {
  const auto& a = *static_cast<const RangeArgs*>(args);
  const int64_t first = tile * kRangeTile;
  const int64_t last = std::min(a.count, first + kRangeTile);
  return a.bytes == 8 ? fill<uint64_t>(a, first, last) : fill<uint32_t>(a, first, last);
}

}  // namespace planck
