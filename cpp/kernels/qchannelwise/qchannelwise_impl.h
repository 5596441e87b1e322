#pragma once
// One source for every vector width: loops over a fixed number of neighbouring channels, which the
// compiler makes vectors of. A tile is a piece of one row of the output with all its channels.
#include "kernels/qchannelwise/qchannelwise.h"

namespace planck {
namespace {

constexpr int kLanes = 32;  // channels at a time

// Taps [from, to) of an axis that lie inside for the place at `first` of its first tap.
struct Taps {
  int64_t from, to;
};
inline Taps taps_inside(const WindowSteps& axis, int64_t first) {
  const int64_t d = axis.dilation;
  int64_t from = first < 0 ? (-first + d - 1) / d : 0;
  int64_t to = axis.in - first <= 0 ? 0 : (axis.in - first + d - 1) / d;
  if (to > axis.kernel) to = axis.kernel;
  if (from > to) from = to;
  return {from, to};
}

// One output: where its first tap lies, and which taps do so inside.
struct Place {
  const uint8_t* x;
  Taps rows, columns;
};

// (x - zero) w fits 16 bits: 255 * 128.
template <int kCount>
inline void add_products(const uint8_t* x, int16_t zero, const int8_t* w, int count,
                         int32_t* sums) {
  const int lanes = kCount > 0 ? kCount : count;
  for (int i = 0; i < lanes; ++i) {
    const auto centred = static_cast<int16_t>(x[i] - zero);
    sums[i] += static_cast<int16_t>(centred * w[i]);
  }
}

// Halves to even; |x| is below 2^22.
inline int32_t nearest(float x) {
  constexpr float kRound = 0x1.8p+23F;
  const float shifted = x + kRound;
  int32_t bits = 0;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;  // the bits of kRound
}

template <int kCount>
inline void finish(const QChannelwiseArgs& a, int64_t channel, int64_t at, int count,
                   const int32_t* sums) {
  const int lanes = kCount > 0 ? kCount : count;
  float v[kLanes];
  for (int i = 0; i < lanes; ++i) {
    v[i] = static_cast<float>(sums[i]) * a.multiplier[channel + i];
  }
  if (a.bias != nullptr) {
    for (int i = 0; i < lanes; ++i) v[i] += a.bias[channel + i];
  }
  if (a.relu) {
    for (int i = 0; i < lanes; ++i) v[i] = v[i] < 0 ? 0 : v[i];  // NaN stays
  }
  if (a.out != nullptr) {
    for (int i = 0; i < lanes; ++i) a.out[at + i] = v[i];
    return;
  }
  const auto low = static_cast<float>(a.low - a.out_zero);
  const auto high = static_cast<float>(a.high - a.out_zero);
  for (int i = 0; i < lanes; ++i) {
    const float above = v[i] > low ? v[i] : low;
    const float inside = above < high ? above : high;
    a.out_bytes[at + i] = static_cast<uint8_t>(nearest(inside) + a.out_zero);
  }
}

template <int kCount>
inline void depthwise(const QChannelwiseArgs& a, const Place& p, int64_t channel, int64_t at,
                      int count) {
  const int lanes = kCount > 0 ? kCount : count;
  int32_t sums[kLanes];
  for (int i = 0; i < lanes; ++i) sums[i] = a.offset[channel + i];
  for (int64_t ty = p.rows.from; ty < p.rows.to; ++ty) {
    const uint8_t* line = p.x + ty * a.rows.dilation * a.rows.step + channel;
    const int8_t* w = a.w + ty * a.columns.kernel * a.channels + channel;
    for (int64_t tx = p.columns.from; tx < p.columns.to; ++tx) {
      add_products<kCount>(line + tx * a.columns.dilation * a.columns.step, a.zero,
                           w + tx * a.channels, count, sums);
    }
  }
  finish<kCount>(a, channel, at, count, sums);
}

template <int kCount>
inline void maximum(const QChannelwiseArgs& a, const Place& p, int64_t channel, int64_t at,
                    int count) {
  const int lanes = kCount > 0 ? kCount : count;
  uint8_t most[kLanes] = {};
  for (int64_t ty = p.rows.from; ty < p.rows.to; ++ty) {
    const uint8_t* line = p.x + ty * a.rows.dilation * a.rows.step + channel;
    for (int64_t tx = p.columns.from; tx < p.columns.to; ++tx) {
      const uint8_t* x = line + tx * a.columns.dilation * a.columns.step;
      for (int i = 0; i < lanes; ++i) most[i] = x[i] > most[i] ? x[i] : most[i];
    }
  }
  for (int i = 0; i < lanes; ++i) a.out_bytes[at + i] = most[i];
}

inline void output(const QChannelwiseArgs& a, const Place& p, int64_t at) {
  const bool products = a.op == QChannelwiseOp::depthwise;
  int64_t channel = 0;
  for (; channel + kLanes <= a.channels; channel += kLanes) {
    products ? depthwise<kLanes>(a, p, channel, at + channel, kLanes)
             : maximum<kLanes>(a, p, channel, at + channel, kLanes);
  }
  if (channel == a.channels) return;
  const int rest = static_cast<int>(a.channels - channel);
  products ? depthwise<0>(a, p, channel, at + channel, rest)
           : maximum<0>(a, p, channel, at + channel, rest);
}

void run_tile(const QChannelwiseArgs& args, int64_t tile) {
  const QChannelwiseArgs a = args;  // stores of bytes may alias the arguments, not a copy
  const int64_t pieces = (a.columns.out + a.places - 1) / a.places;
  const int64_t line = tile / pieces, first = tile % pieces * a.places;
  const int64_t last = first + a.places < a.columns.out ? first + a.places : a.columns.out;
  const int64_t image = line / a.rows.out;
  const int64_t top = line % a.rows.out * a.rows.stride - a.rows.begin;
  const uint8_t* picture = a.x + image * a.image_step + top * a.rows.step;
  for (int64_t x = first; x < last; ++x) {
    const int64_t left = x * a.columns.stride - a.columns.begin;
    const Place place{picture + left * a.columns.step, taps_inside(a.rows, top),
                      taps_inside(a.columns, left)};
    output(a, place, (line * a.columns.out + x) * a.out_stride);
  }
}

}  // namespace
}  // namespace planck
