#pragma once
// Vectors of bytes, as many as fit kPoolBytes: included by each ISA file after it has defined that.
#include "kernels/byte_pool/byte_pool.h"
#include "kernels/simd/taps.h"

namespace planck {
namespace {

// The places that one output reads.
struct ByteWindow {
  const uint8_t* x;  // first tap, perhaps outside
  Taps rows, columns;
  int64_t row_step, column_step;
};

// kBytes neighbouring channels (kPoolBytes: what a register of the ISA holds).
template <class T, int64_t kBytes>
struct ByteVector {
  typedef T Lanes __attribute__((vector_size(kBytes)));
  Lanes v;

  static ByteVector lowest() {
    constexpr T kLowest = T(-1) < T(0) ? T(-128) : T(0);
    return {Lanes{} + kLowest};
  }
  void take(const uint8_t* from, int64_t count) {
    Lanes x = lowest().v;
    __builtin_memcpy(&x, from, static_cast<size_t>(count));
    v = v < x ? x : v;
  }
};

// kVectors times kBytes channels of one output, the last vector in part.
template <class T, int64_t kBytes, int kVectors>
inline void greatest(const ByteWindow& w, int64_t channel, int64_t last, uint8_t* out) {
  ByteVector<T, kBytes> best[kVectors];
  for (auto& b : best) b = ByteVector<T, kBytes>::lowest();
  for (int64_t y = w.rows.from; y < w.rows.to; ++y) {
    for (int64_t x = w.columns.from; x < w.columns.to; ++x) {
      const uint8_t* from = w.x + y * w.row_step + x * w.column_step + channel;
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        best[i].take(from + i * kBytes, i + 1 == kVectors ? last : kBytes);
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    __builtin_memcpy(out + channel + i * kBytes, &best[i].v,
                     static_cast<size_t>(i + 1 == kVectors ? last : kBytes));
  }
}

template <class T>
void pool(const BytePoolArgs& a, const ByteWindow& w, uint8_t* out) {
  int64_t channel = 0;
  for (; channel + 4 * kPoolBytes <= a.channels; channel += 4 * kPoolBytes) {
    greatest<T, kPoolBytes, 4>(w, channel, kPoolBytes, out);
  }
  for (; channel + kPoolBytes <= a.channels; channel += kPoolBytes) {
    greatest<T, kPoolBytes, 1>(w, channel, kPoolBytes, out);
  }
  for (; channel < a.channels; channel += 16) {
    const int64_t rest = a.channels - channel;
    greatest<T, 16, 1>(w, channel, rest < 16 ? rest : 16, out);
  }
}

void run_tile(const BytePoolArgs& a, int64_t tile) {
  const int64_t pieces = (a.columns.out + a.places - 1) / a.places;
  const int64_t line = tile / pieces, first = tile % pieces * a.places;
  const int64_t last = first + a.places < a.columns.out ? first + a.places : a.columns.out;
  const int64_t image = line / a.rows.out, y = line % a.rows.out;
  const int64_t top = y * a.rows.stride - a.rows.begin;
  const uint8_t* picture = a.x + image * a.image_step + top * a.rows.step;
  ByteWindow w{nullptr,
               taps_inside(a.rows, top),
               {},
               a.rows.dilation * a.rows.step,
               a.columns.dilation * a.columns.step};
  for (int64_t x = first; x < last; ++x) {
    const int64_t left = x * a.columns.stride - a.columns.begin;
    w.x = picture + left * a.columns.step;
    w.columns = taps_inside(a.columns, left);
    uint8_t* out = a.out + (line * a.columns.out + x) * a.out_stride;
    a.is_signed ? pool<int8_t>(a, w, out) : pool<uint8_t>(a, w, out);
  }
}

}  // namespace
}  // namespace planck
