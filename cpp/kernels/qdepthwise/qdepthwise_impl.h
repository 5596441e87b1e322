#pragma once
// One family for every vector width: included after the vector header of an ISA file. A tile is a
// piece of one row of the output with all its channels.
//
// Bytes become floats as they are loaded, and products are added up by fused multiply-adds: whole
// numbers, exact in fp32 while they are below 2^24, which leaves a lane 32 bits wide with one
// instruction for a product where integers of 16 bits need two. After at most kQDepthwiseTaps taps
// sums go on as int32.
#include "kernels/qdepthwise/qdepthwise.h"
#include "kernels/simd/row_sums.h"
#include "kernels/simd/taps.h"

namespace planck {
namespace {

PLANCK_INLINE I16 load_byte_lanes(const uint8_t* p, int64_t lanes) {
  if (lanes == 16) return load_u8(p);
  uint8_t bytes[16] = {};
  __builtin_memcpy(bytes, p, static_cast<size_t>(lanes));
  return load_u8(bytes);
}
PLANCK_INLINE I16 load_s32_lanes(const int32_t* p, int64_t lanes) {
  if (lanes == 16) return load_s32(p);
  int32_t numbers[16] = {};
  __builtin_memcpy(numbers, p, static_cast<size_t>(lanes) * sizeof(int32_t));
  return load_s32(numbers);
}
PLANCK_INLINE void store_byte_lanes(uint8_t* p, F16 x, int64_t lanes) {
  if (lanes == 16) return store_bytes(p, x);
  uint8_t bytes[16];
  store_bytes(bytes, x);
  __builtin_memcpy(p, bytes, static_cast<size_t>(lanes));
}

// Halves to even, for magnitudes up to 2^22: behind the sum the fraction has no bits.
PLANCK_INLINE F16 nearest(F16 x) { return (x + set1(kRound)) - set1(kRound); }
PLANCK_INLINE I16 to_int(F16 whole) { return bits(whole + set1(kRound)) - bits(set1(kRound)); }

// What a group of neighbouring outputs reads and writes. Plain numbers, apart from the arguments:
// stores of vectors may alias those, so that the compiler would read them again after each.
struct Group {
  const uint8_t* x;  // first tap of the first output, perhaps outside
  const float* w;
  const int32_t *offset, *padding;
  const float *multiplier, *bias, *residual;
  float* out;      // or
  uint8_t* bytes;  // requantised
  Taps rows, columns;
  int64_t column_taps, channels;
  int64_t row_step, column_step;  // from tap to tap
  int64_t next;                   // from output to output
  int64_t out_stride, residual_stride;
  int32_t zero;
  float out_zero, low, high;  // bounds without the zero point
};

// A place less the zero point, so that padding is left out.
PLANCK_INLINE F16 centred(const Group& g, const uint8_t* x, int64_t lanes) {
  return to_float(load_byte_lanes(x, lanes) - set1i(g.zero));
}

// Outputs of one vector of channels; the weights of a tap serve all of them.
template <int kCount>
struct AnyTaps {
  PLANCK_INLINE static void row(const Group& g, const uint8_t* line, const float* w, int64_t lanes,
                                F16* sums) {
    for (int64_t tx = g.columns.from; tx < g.columns.to; ++tx) {
      const uint8_t* x = line + tx * g.column_step;
      const F16 weight = load_lanes(w + tx * g.channels, lanes);
#pragma GCC unroll 8
      for (int i = 0; i < kCount; ++i) {
        sums[i] = fma(centred(g, x + i * g.next, lanes), weight, sums[i]);
      }
    }
  }
};

// The same for kTaps neighbouring taps that all lie inside, with outputs kStride places apart: each
// place is loaded once and serves every output that reads it.
template <int kCount, int kTaps, int kStride>
struct FixedTaps {
  PLANCK_INLINE static void row(const Group& g, const uint8_t* line, const float* w, int64_t lanes,
                                F16* sums) {
    F16 weights[kTaps];
#pragma GCC unroll 8
    for (int t = 0; t < kTaps; ++t) weights[t] = load_lanes(w + t * g.channels, lanes);
#pragma GCC unroll 16
    for (int place = 0; place < (kCount - 1) * kStride + kTaps; ++place) {
      const F16 x = centred(g, line + place * g.column_step, lanes);
#pragma GCC unroll 8
      for (int i = 0; i < kCount; ++i) {
        const int t = place - i * kStride;
        if (t >= 0 && t < kTaps) sums[i] = fma(x, weights[t], sums[i]);
      }
    }
  }
};

PLANCK_INLINE void finish(const Group& g, int64_t channel, int64_t lanes, int i, I16 sum) {
  F16 v = to_float(sum) * load_lanes(g.multiplier + channel, lanes);
  if (g.bias != nullptr) v = v + load_lanes(g.bias + channel, lanes);
  if (g.residual != nullptr) {
    v = v + load_lanes(g.residual + i * g.residual_stride + channel, lanes);
  }
  if (g.bytes == nullptr) return store_lanes(g.out + i * g.out_stride + channel, v, lanes);
  const F16 inside = min2(max2(v, set1(g.low)), set1(g.high));
  store_byte_lanes(g.bytes + i * g.out_stride + channel, nearest(inside) + set1(g.out_zero), lanes);
}

template <int kCount, class Row>
PLANCK_INLINE void outputs_of(const Group& g, int64_t channel, int64_t lanes) {
  const I16 start =
      load_s32_lanes(g.offset + channel, lanes) + load_s32_lanes(g.padding + channel, lanes);
  I16 whole[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) whole[i] = start;
  const int64_t step = kQDepthwiseTaps / g.column_taps;  // rows whose sums stay exact
  for (int64_t from = g.rows.from; from < g.rows.to; from += step) {
    const int64_t to = from + step < g.rows.to ? from + step : g.rows.to;
    F16 sums[kCount];
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) sums[i] = zero16();
    for (int64_t ty = from; ty < to; ++ty) {
      Row::row(g, g.x + ty * g.row_step + channel, g.w + ty * g.column_taps * g.channels + channel,
               lanes, sums);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) whole[i] = whole[i] + to_int(sums[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) finish(g, channel, lanes, i, whole[i]);
}

template <int kCount, class Row>
void outputs(const Group& group) {
  const Group g = group;
  int64_t channel = 0;
  // Whole vectors with a constant number of lanes, so that loads need no mask.
  for (; channel + 16 <= g.channels; channel += 16) outputs_of<kCount, Row>(g, channel, 16);
  if (channel < g.channels) outputs_of<kCount, Row>(g, channel, g.channels - channel);
}

constexpr int kGroup = 4;
using GroupFn = void (*)(const Group&);

// For groups whose windows lie inside the columns of the picture.
GroupFn inner_of(const WindowSteps& columns) {
  const bool fixed = columns.dilation == 1;
  if (fixed && columns.kernel == 3 && columns.stride == 1) {
    return outputs<kGroup, FixedTaps<kGroup, 3, 1>>;
  }
  if (fixed && columns.kernel == 3 && columns.stride == 2) {
    return outputs<kGroup, FixedTaps<kGroup, 3, 2>>;
  }
  if (fixed && columns.kernel == 5 && columns.stride == 1) {
    return outputs<kGroup, FixedTaps<kGroup, 5, 1>>;
  }
  if (fixed && columns.kernel == 5 && columns.stride == 2) {
    return outputs<kGroup, FixedTaps<kGroup, 5, 2>>;
  }
  return outputs<kGroup, AnyTaps<kGroup>>;
}

// Where the floats of a tile lie, or its bytes.
struct Results {
  float* floats;
  uint8_t* bytes;
  int64_t stride;
};

Group group_of(const QDepthwiseArgs& a, int64_t top, int64_t stride) {
  Group g{};
  g.w = a.w;
  g.offset = a.offset;
  g.padding = a.padding;
  g.multiplier = a.multiplier;
  g.bias = a.bias;
  g.rows = taps_inside(a.rows, top);
  g.column_taps = a.columns.kernel;
  g.channels = a.channels;
  g.row_step = a.rows.dilation * a.rows.step;
  g.column_step = a.columns.dilation * a.columns.step;
  g.next = a.columns.stride * a.columns.step;
  g.out_stride = stride;
  g.residual_stride = a.residual_stride;
  g.zero = a.zero_at != nullptr ? *a.zero_at : a.zero;
  g.out_zero = static_cast<float>(a.out_zero);
  g.low = static_cast<float>(a.low - a.out_zero);
  g.high = static_cast<float>(a.high - a.out_zero);
  return g;
}

// Outputs [first, last) of one row. Groups whose windows reach over the same edges share the loads
// of weights.
void piece(const QDepthwiseArgs& a, int64_t line, int64_t first, int64_t last, const Results& to) {
  const GroupFn inner = inner_of(a.columns);
  const int64_t image = line / a.rows.out, y = line % a.rows.out;
  const int64_t top = y * a.rows.stride - a.rows.begin, place = line * a.columns.out;
  const uint8_t* picture = a.x + image * a.image_step + top * a.rows.step;
  Group g = group_of(a, top, to.stride);
  for (int64_t x = first; x < last;) {
    const int64_t left = x * a.columns.stride - a.columns.begin;
    g.x = picture + left * a.columns.step;
    g.out = to.floats != nullptr ? to.floats + (x - first) * to.stride : nullptr;
    g.bytes = to.bytes != nullptr ? to.bytes + (x - first) * to.stride : nullptr;
    if (a.residual != nullptr) g.residual = a.residual + (place + x) * a.residual_stride;
    g.columns = taps_inside(a.columns, left);
    const Taps other = taps_inside(a.columns, left + (kGroup - 1) * a.columns.stride);
    const bool alike = g.columns.from == other.from && g.columns.to == other.to;
    if (!alike || x + kGroup > last) {
      outputs<1, AnyTaps<1>>(g);
      ++x;
      continue;
    }
    const bool inside = g.columns.from == 0 && g.columns.to == a.columns.kernel;
    inside ? inner(g) : outputs<kGroup, AnyTaps<kGroup>>(g);
    x += kGroup;
  }
}

void run_program(const QDepthwiseArgs& a, int64_t place, int64_t count, const Results& sums) {
  EltOperand operands[2] = {{sums.floats, sums.stride, 1}, a.operand};
  if (a.program->operands > 1) operands[1].advance(place * a.operand.row_stride);
  EltStrip strip{operands, sums.floats, sums.stride, count, a.channels};
  if (a.bytes != nullptr) {
    strip.out = static_cast<char*>(a.bytes) + place * a.out_stride;
    strip.out_row_stride = a.out_stride;
    strip.out_type = a.bytes_type;
  }
  a.strip(*a.program, strip);
}

void run_tile(const QDepthwiseArgs& a, int64_t tile, const Worker& worker) {
  const int64_t pieces = (a.columns.out + a.places - 1) / a.places;
  const int64_t line = tile / pieces, first = tile % pieces * a.places;
  const int64_t last = first + a.places < a.columns.out ? first + a.places : a.columns.out;
  const int64_t place = line * a.columns.out + first;
  Results to{nullptr, nullptr, a.out_stride};
  if (a.requantize) {
    to.bytes = static_cast<uint8_t*>(a.bytes) + place * a.out_stride;
  } else if (a.bytes != nullptr) {
    to.floats = static_cast<float*>(static_cast<void*>(worker.scratch));
    to.stride = a.channels;
  } else {
    to.floats = a.out + place * a.out_stride;
  }
  piece(a, line, first, last, to);
  if (a.program != nullptr) run_program(a, place, last - first, to);
}

}  // namespace
}  // namespace planck
