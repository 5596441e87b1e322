#pragma once
// One family for every vector width: included after the vector header of an ISA file. A tile is a
// piece of one row of the output with all its channels.
#include "kernels/channelwise/channelwise.h"
#include "kernels/simd/row_sums.h"

namespace planck {
namespace {

// Taps [from, to) of an axis that lie inside for the place at `first` of its first tap.
struct Taps {
  int64_t from, to;
};
PLANCK_INLINE Taps taps_inside(const WindowSteps& axis, int64_t first) {
  const int64_t d = axis.dilation;
  int64_t from = first < 0 ? (-first + d - 1) / d : 0;
  int64_t to = axis.in - first <= 0 ? 0 : (axis.in - first + d - 1) / d;
  if (to > axis.kernel) to = axis.kernel;
  if (from > to) from = to;
  return {from, to};
}

// What a group of neighbouring outputs reads.
struct Window {
  const float* x;  // first tap of the first output, perhaps outside
  Taps rows, columns;
};

template <ChannelwiseOp op>
PLANCK_INLINE F16 start() {
  return op == ChannelwiseOp::max ? set1(-kInf) : zero16();
}
template <ChannelwiseOp op>
PLANCK_INLINE F16 combine(F16 sum, F16 x, F16 w) {
  if constexpr (op == ChannelwiseOp::depthwise) return fma(x, w, sum);
  if constexpr (op == ChannelwiseOp::max) return max_nan(sum, x);
  return sum + x;
}

// `count` neighbouring outputs of one vector of channels; the weights of a tap serve all of them.
template <ChannelwiseOp op, int kCount>
PLANCK_INLINE void accumulate(const ChannelwiseArgs& a, const Window& window, int64_t channel,
                              int64_t lanes, F16* sums) {
  const int64_t next = a.columns.stride * a.columns.step;
  for (int i = 0; i < kCount; ++i) sums[i] = start<op>();
  for (int64_t ty = window.rows.from; ty < window.rows.to; ++ty) {
    const float* line = window.x + ty * a.rows.dilation * a.rows.step + channel;
    for (int64_t tx = window.columns.from; tx < window.columns.to; ++tx) {
      const float* x = line + tx * a.columns.dilation * a.columns.step;
      F16 w = zero16();
      if (op == ChannelwiseOp::depthwise) {
        w = load_lanes(a.w + (ty * a.columns.kernel + tx) * a.channels + channel, lanes);
      }
      for (int i = 0; i < kCount; ++i) {
        sums[i] = combine<op>(sums[i], load_lanes(x + i * next, lanes), w);
      }
    }
  }
}

template <ChannelwiseOp op>
PLANCK_INLINE float scale_of(const ChannelwiseArgs& a, const Window& window) {
  if (op != ChannelwiseOp::average) return 1;
  const int64_t inside =
      (window.rows.to - window.rows.from) * (window.columns.to - window.columns.from);
  const int64_t count = a.count_padding ? a.rows.kernel * a.columns.kernel : inside;
  return count == 0 ? 0 : static_cast<float>(count);
}

template <ChannelwiseOp op, int kCount>
PLANCK_INLINE void outputs_of(const ChannelwiseArgs& a, const Window& window, int64_t place,
                              int64_t channel, int64_t lanes) {
  F16 sums[kCount];
  accumulate<op, kCount>(a, window, channel, lanes, sums);
  const float count = scale_of<op>(a, window);
  for (int i = 0; i < kCount; ++i) {
    F16 y = sums[i];
    if (op == ChannelwiseOp::average && count != 0) y = y / set1(count);
    if (a.bias != nullptr) y = y + load_lanes(a.bias + channel, lanes);
    if (a.residual != nullptr) {
      y = y + load_lanes(a.residual + (place + i) * a.residual_stride + channel, lanes);
    }
    store_lanes(a.out + (place + i) * a.out_stride + channel, y, lanes);
  }
}

template <ChannelwiseOp op, int kCount>
void outputs(const ChannelwiseArgs& a, const Window& window, int64_t place) {
  int64_t channel = 0;
  // Whole vectors with a constant number of lanes, so that loads need no mask.
  for (; channel + 16 <= a.channels; channel += 16) {
    outputs_of<op, kCount>(a, window, place, channel, 16);
  }
  if (channel < a.channels) {
    outputs_of<op, kCount>(a, window, place, channel, a.channels - channel);
  }
}

// Outputs [first, last) of one row. Groups whose windows lie inside share the loads of weights.
template <ChannelwiseOp op>
void piece(const ChannelwiseArgs& a, int64_t line, int64_t first, int64_t last) {
  constexpr int kGroup = 4;
  const int64_t image = line / a.rows.out, y = line % a.rows.out;
  const int64_t top = y * a.rows.stride - a.rows.begin;
  const float* picture = a.x + image * a.image_step + top * a.rows.step;
  Window window{nullptr, taps_inside(a.rows, top), {}};
  const int64_t place = line * a.columns.out;
  for (int64_t x = first; x < last;) {
    const int64_t left = x * a.columns.stride - a.columns.begin;
    const int64_t right = left + (kGroup - 1) * a.columns.stride;
    window.x = picture + left * a.columns.step;
    window.columns = taps_inside(a.columns, left);
    const Taps other = taps_inside(a.columns, right);
    const bool alike = window.columns.from == other.from && window.columns.to == other.to;
    if (alike && x + kGroup <= last) {
      outputs<op, kGroup>(a, window, place + x);
      x += kGroup;
    } else {
      outputs<op, 1>(a, window, place + x);
      ++x;
    }
  }
}

void run_tile(const ChannelwiseArgs& a, int64_t tile) {
  const int64_t pieces = (a.columns.out + a.places - 1) / a.places;
  const int64_t line = tile / pieces, first = tile % pieces * a.places;
  const int64_t last = first + a.places < a.columns.out ? first + a.places : a.columns.out;
  if (a.op == ChannelwiseOp::depthwise) piece<ChannelwiseOp::depthwise>(a, line, first, last);
  if (a.op == ChannelwiseOp::max) piece<ChannelwiseOp::max>(a, line, first, last);
  if (a.op == ChannelwiseOp::average) piece<ChannelwiseOp::average>(a, line, first, last);
  if (!a.has_program) return;
  float* out = a.out + (line * a.columns.out + first) * a.out_stride;
  const EltOperand sums{out, a.out_stride, 1};
  a.strip(a.program, {&sums, out, a.out_stride, last - first, a.channels});
}

}  // namespace
}  // namespace planck
