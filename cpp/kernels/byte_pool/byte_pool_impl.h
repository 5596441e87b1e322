#pragma once
// Loops that a compiler turns into byte maxima of its instruction set: included by each ISA file.
#include "kernels/byte_pool/byte_pool.h"

namespace planck {
namespace {

struct ByteTaps {
  int64_t from, to;
};
// Taps of an axis that lie inside for the place at `first` of its first tap.
inline ByteTaps byte_taps(const WindowSteps& axis, int64_t first) {
  const int64_t d = axis.dilation;
  int64_t from = first < 0 ? (-first + d - 1) / d : 0;
  int64_t to = axis.in - first <= 0 ? 0 : (axis.in - first + d - 1) / d;
  if (to > axis.kernel) to = axis.kernel;
  if (from > to) from = to;
  return {from, to};
}

// The places that one output reads.
struct ByteWindow {
  const uint8_t* x;  // first tap, perhaps outside
  ByteTaps rows, columns;
  int64_t row_step, column_step;
};

template <class T, int64_t kCount>
inline void greatest(const ByteWindow& w, int64_t channel, int64_t count, uint8_t* out) {
  constexpr T kLowest = T(-1) < T(0) ? T(-128) : T(0);
  T best[kCount];
  for (int64_t c = 0; c < kCount; ++c) best[c] = kLowest;
  for (int64_t y = w.rows.from; y < w.rows.to; ++y) {
    for (int64_t x = w.columns.from; x < w.columns.to; ++x) {
      const uint8_t* from = w.x + y * w.row_step + x * w.column_step + channel;
      for (int64_t c = 0; c < count; ++c) {
        const T v = static_cast<T>(from[c]);
        best[c] = best[c] < v ? v : best[c];
      }
    }
  }
  for (int64_t c = 0; c < count; ++c) out[channel + c] = static_cast<uint8_t>(best[c]);
}

template <class T>
void pool(const BytePoolArgs& a, const ByteWindow& w, uint8_t* out) {
  constexpr int64_t kBlock = 64;
  int64_t channel = 0;
  // Whole blocks with a constant number of channels, so that they stay in registers.
  for (; channel + kBlock <= a.channels; channel += kBlock) {
    greatest<T, kBlock>(w, channel, kBlock, out);
  }
  for (; channel + 16 <= a.channels; channel += 16) greatest<T, 16>(w, channel, 16, out);
  if (channel < a.channels) greatest<T, 16>(w, channel, a.channels - channel, out);
}

void run_tile(const BytePoolArgs& a, int64_t tile) {
  const int64_t pieces = (a.columns.out + a.places - 1) / a.places;
  const int64_t line = tile / pieces, first = tile % pieces * a.places;
  const int64_t last = first + a.places < a.columns.out ? first + a.places : a.columns.out;
  const int64_t image = line / a.rows.out, y = line % a.rows.out;
  const int64_t top = y * a.rows.stride - a.rows.begin;
  const uint8_t* picture = a.x + image * a.image_step + top * a.rows.step;
  ByteWindow w{nullptr,
               byte_taps(a.rows, top),
               {},
               a.rows.dilation * a.rows.step,
               a.columns.dilation * a.columns.step};
  for (int64_t x = first; x < last; ++x) {
    const int64_t left = x * a.columns.stride - a.columns.begin;
    w.x = picture + left * a.columns.step;
    w.columns = byte_taps(a.columns, left);
    uint8_t* out = a.out + (line * a.columns.out + x) * a.out_stride;
    a.is_signed ? pool<int8_t>(a, w, out) : pool<uint8_t>(a, w, out);
  }
}

}  // namespace
}  // namespace planck
