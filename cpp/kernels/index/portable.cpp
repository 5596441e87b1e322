#include <algorithm>
#include <cstring>

#include "kernels/index/index_impl.h"
#include "kernels/simd/row_blocks.h"

namespace planck {
namespace {

template <class T>
void gather(const IndexArgs& a, int64_t first, int64_t last) {
  const T* data = static_cast<const T*>(a.data);
  T* out = static_cast<T*>(a.out);
  const size_t bytes = static_cast<size_t>(a.inner) * sizeof(T);
  for (int64_t r = first; r < last; ++r) {
    const int64_t at = place_of(a, r);
    T* to = out + r * a.inner;
    if (at < 0) {
      std::memset(to, 0, bytes);
    } else if (a.inner == 1) {
      *to = data[at];
    } else {
      std::memcpy(to, data + at, bytes);
    }
  }
}

template <class T>
void scatter(const IndexArgs& a) {
  const T* data = static_cast<const T*>(a.data);
  T* out = static_cast<T*>(a.out);
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t at = place_of(a, r);
    if (at < 0) continue;
    std::memcpy(out + at, data + r * a.inner, static_cast<size_t>(a.inner) * sizeof(T));
  }
}

template <class T>
void one_hot(const IndexArgs& a, int64_t first, int64_t last) {
  const T off = static_cast<const T*>(a.data)[0], on = static_cast<const T*>(a.data)[1];
  const int64_t depth = a.extents[0], size = depth * a.period;
  for (int64_t o = first; o < last; ++o) {
    T* to = static_cast<T*>(a.out) + o * size;
    std::fill_n(to, size, off);
    for (int64_t i = 0; i < a.period; ++i) {
      const int64_t place = place_in(index_at(a, o * a.period + i), depth);
      if (place >= 0) to[place * a.period + i] = on;
    }
  }
}

template <class T>
void run(const IndexArgs& a, int64_t tile) {
  if (a.op == IndexOp::scatter) return scatter<T>(a);
  const bool hot = a.op == IndexOp::one_hot;
  const int64_t rows = hot ? a.rows / a.period : a.rows;
  const int64_t block = rows_of_tile(hot ? a.extents[0] * a.period : a.inner, kIndexTile);
  const int64_t first = tile * block, last = std::min(rows, first + block);
  hot ? one_hot<T>(a, first, last) : gather<T>(a, first, last);
}

}  // namespace

void index_any_1_portable(const void* args, int64_t tile, const Worker&) {
  const auto& a = *static_cast<const IndexArgs*>(args);
  if (a.bytes == 1) return run<uint8_t>(a, tile);
  if (a.bytes == 2) return run<uint16_t>(a, tile);
  return a.bytes == 4 ? run<uint32_t>(a, tile) : run<uint64_t>(a, tile);
}

}  // namespace planck
