#pragma once
// One family for every vector width: included after the vector header of an ISA file. A tile is a
// piece of one row of the output with all its channels.
#include "kernels/channelwise/channelwise.h"
#include "kernels/channelwise/tile.h"
#include "kernels/simd/row_sums.h"
#include "kernels/simd/taps.h"

namespace planck {
namespace {

// What a group of neighbouring outputs reads and writes. Plain numbers, apart from the arguments:
// stores of vectors may alias those, so that the compiler would read them again after each.
struct Group {
  const float *x, *w, *bias, *residual;  // x: first tap of the first output, perhaps outside
  float* out;
  uint8_t* bytes;  // instead of out
  Taps rows, columns;
  int64_t kernel, channels;       // of a row of taps
  int64_t row_step, column_step;  // from tap to tap
  int64_t next;                   // from output to output
  int64_t out_stride, residual_stride;
  float count;  // average: what a sum is divided by
  ChannelwiseFinish finish;
  ChannelwiseAffine before, after;
  ByteQuotient quotient;
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

// Outputs of one vector of channels; the weights of a tap serve all of them.
template <ChannelwiseOp op, int kCount>
struct AnyTaps {
  PLANCK_INLINE static void row(const Group& g, const float* line, const float* w, int64_t channel,
                                int64_t lanes, F16* sums) {
    for (int64_t tx = g.columns.from; tx < g.columns.to; ++tx) {
      const float* x = line + tx * g.column_step;
      F16 weight = zero16();
      if (op == ChannelwiseOp::depthwise) weight = load_lanes(w + tx * g.channels + channel, lanes);
#pragma GCC unroll 8
      for (int i = 0; i < kCount; ++i) {
        sums[i] = combine<op>(sums[i], load_lanes(x + i * g.next, lanes), weight);
      }
    }
  }
};

// The same for kTaps neighbouring taps that all lie inside, with outputs kStride places apart: each
// place is loaded once and serves every output that reads it. Taps still come in order.
template <int kCount, int kTaps, int kStride>
struct FixedTaps {
  PLANCK_INLINE static void row(const Group& g, const float* line, const float* w, int64_t channel,
                                int64_t lanes, F16* sums) {
    F16 weights[kTaps];
#pragma GCC unroll 8
    for (int t = 0; t < kTaps; ++t) weights[t] = load_lanes(w + t * g.channels + channel, lanes);
#pragma GCC unroll 16
    for (int place = 0; place < (kCount - 1) * kStride + kTaps; ++place) {
      const F16 x = load_lanes(line + place * g.column_step, lanes);
#pragma GCC unroll 8
      for (int i = 0; i < kCount; ++i) {
        const int t = place - i * kStride;
        if (t >= 0 && t < kTaps) sums[i] = fma(x, weights[t], sums[i]);
      }
    }
  }
};

template <int kCount>
PLANCK_INLINE void scale(const ChannelwiseAffine& affine, F16 (&y)[kCount]) {
  if (!affine.used) return;
  const F16 by = set1(affine.scale), shift = set1(affine.shift);
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) y[i] = y[i] * by + shift;
}

PLANCK_INLINE void store_level_lanes(uint8_t* to, F16 level, int32_t zero, int64_t lanes) {
  if (lanes == 16) return store_levels(to, level, zero);
  uint8_t part[16];
  store_levels(part, level, zero);
  for (int64_t i = 0; i < lanes; ++i) to[i] = part[i];
}

// Bias and residual of outputs [first, first + kCount), and what comes last. Each question is asked
// once for all of them.
template <int kCount>
PLANCK_INLINE void put(const Group& g, F16 (&y)[kCount], int64_t first, int64_t channel,
                       int64_t lanes) {
  if (g.bias != nullptr) {
    const F16 bias = load_lanes(g.bias + channel, lanes);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) y[i] = y[i] + bias;
  }
  if (g.residual != nullptr) {
    const float* residual = g.residual + first * g.residual_stride + channel;
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      y[i] = y[i] + load_lanes(residual + i * g.residual_stride, lanes);
    }
  }
  scale(g.before, y);
  if (g.finish == ChannelwiseFinish::relu) {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) y[i] = relu(y[i]);
  }
  if (g.finish == ChannelwiseFinish::hard_swish) {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) y[i] = hard_swish(y[i]);
  }
  scale(g.after, y);
  const int64_t place = first * g.out_stride + channel;
  if (g.bytes == nullptr) {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) store_lanes(g.out + place + i * g.out_stride, y[i], lanes);
    return;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    const F16 level = level_by(y[i], g.quotient);
    store_level_lanes(g.bytes + place + i * g.out_stride, level, g.quotient.zero, lanes);
  }
}

template <ChannelwiseOp op, int kCount, class Row>
PLANCK_INLINE void outputs_of(const Group& g, int64_t channel, int64_t lanes) {
  F16 sums[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) sums[i] = start<op>();
  for (int64_t ty = g.rows.from; ty < g.rows.to; ++ty) {
    Row::row(g, g.x + ty * g.row_step + channel, g.w + ty * g.kernel * g.channels, channel, lanes,
             sums);
  }
  if (op == ChannelwiseOp::average && g.count != 0) {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) sums[i] = sums[i] / set1(g.count);
  }
  put(g, sums, 0, channel, lanes);
}

// One output of four vectors of channels: four sums hide some of the latency.
template <ChannelwiseOp op>
PLANCK_INLINE void output_of_many(const Group& g, int64_t channel) {
  constexpr int64_t kMany = 4, kWidth = 16;
  F16 sums[kMany];
#pragma GCC unroll 4
  for (int64_t v = 0; v < kMany; ++v) sums[v] = start<op>();
  for (int64_t ty = g.rows.from; ty < g.rows.to; ++ty) {
    for (int64_t tx = g.columns.from; tx < g.columns.to; ++tx) {
      const float* x = g.x + ty * g.row_step + tx * g.column_step + channel;
      const float* w = g.w + (ty * g.kernel + tx) * g.channels + channel;
#pragma GCC unroll 4
      for (int64_t v = 0; v < kMany; ++v) {
        F16 weight = zero16();
        if (op == ChannelwiseOp::depthwise) weight = load(w + v * kWidth);
        sums[v] = combine<op>(sums[v], load(x + v * kWidth), weight);
      }
    }
  }
#pragma GCC unroll 4
  for (int64_t v = 0; v < kMany; ++v) {
    F16 y[1] = {sums[v]};
    if (op == ChannelwiseOp::average && g.count != 0) y[0] = y[0] / set1(g.count);
    put(g, y, 0, channel + v * kWidth, kWidth);
  }
}

template <ChannelwiseOp op, int kCount, class Row>
void outputs(const Group& group) {
  const Group g = group;
  int64_t channel = 0;
  if constexpr (kCount == 1) {
    for (; channel + 64 <= g.channels; channel += 64) output_of_many<op>(g, channel);
  }
  // Whole vectors with a constant number of lanes, so that loads need no mask.
  for (; channel + 16 <= g.channels; channel += 16) outputs_of<op, kCount, Row>(g, channel, 16);
  if (channel < g.channels) outputs_of<op, kCount, Row>(g, channel, g.channels - channel);
}

constexpr int kGroup = 4;
using GroupFn = void (*)(const Group&);

// For groups whose windows lie inside the columns of the picture.
template <ChannelwiseOp op>
GroupFn inner_of(const WindowSteps& columns) {
  const bool fixed = op == ChannelwiseOp::depthwise && columns.dilation == 1;
  if (fixed && columns.kernel == 3 && columns.stride == 1) {
    return outputs<op, kGroup, FixedTaps<kGroup, 3, 1>>;
  }
  if (fixed && columns.kernel == 3 && columns.stride == 2) {
    return outputs<op, kGroup, FixedTaps<kGroup, 3, 2>>;
  }
  if (fixed && columns.kernel == 5 && columns.stride == 1) {
    return outputs<op, kGroup, FixedTaps<kGroup, 5, 1>>;
  }
  if (fixed && columns.kernel == 5 && columns.stride == 2) {
    return outputs<op, kGroup, FixedTaps<kGroup, 5, 2>>;
  }
  return outputs<op, kGroup, AnyTaps<op, kGroup>>;
}

// --- a piece of a line

template <ChannelwiseOp op>
float count_of(const ChannelwiseArgs& a, const Group& g) {
  if (op != ChannelwiseOp::average) return 1;
  const int64_t inside = (g.rows.to - g.rows.from) * (g.columns.to - g.columns.from);
  return static_cast<float>(a.count_padding ? a.rows.kernel * a.columns.kernel : inside);
}

// Where the floats of a tile lie, or its bytes.
struct Sums {
  float* first;
  int64_t stride;
  uint8_t* bytes;
};

// Outputs [first, last) of one line.
struct Piece {
  int64_t line, first, last;
  Sums sums;
};

// Where output x of the piece reads and writes; `picture` is the place above column 0 of its line.
void move_to(const ChannelwiseArgs& a, const Piece& piece, const float* picture, int64_t x,
             Group& g) {
  g.x = picture + (x * a.columns.stride - a.columns.begin) * a.columns.step;
  const int64_t place = (x - piece.first) * piece.sums.stride;
  if (piece.sums.bytes != nullptr) {
    g.bytes = piece.sums.bytes + place;
  } else {
    g.out = piece.sums.first + place;
  }
  if (a.residual != nullptr) {
    g.residual = a.residual + (piece.line * a.columns.out + x) * a.residual_stride;
  }
}

// Outputs [first, last) of the piece, groups of them whose windows reach over the same edges share
// the loads of weights.
template <ChannelwiseOp op>
void some_outputs(const ChannelwiseArgs& a, const Piece& piece, const float* picture, int64_t first,
                  int64_t last, Group& g) {
  const GroupFn inner = inner_of<op>(a.columns);
  for (int64_t x = first; x < last;) {
    const int64_t left = x * a.columns.stride - a.columns.begin;
    move_to(a, piece, picture, x, g);
    g.columns = taps_inside(a.columns, left);
    g.count = count_of<op>(a, g);
    const Taps other = taps_inside(a.columns, left + (kGroup - 1) * a.columns.stride);
    const bool alike = g.columns.from == other.from && g.columns.to == other.to;
    if (!alike || x + kGroup > last) {
      outputs<op, 1, AnyTaps<op, 1>>(g);
      ++x;
      continue;
    }
    const bool inside = g.columns.from == 0 && g.columns.to == a.columns.kernel;
    inside ? inner(g) : outputs<op, kGroup, AnyTaps<op, kGroup>>(g);
    x += kGroup;
  }
}

template <ChannelwiseOp op>
void run_piece(const ChannelwiseArgs& a, const Piece& piece) {
  const int64_t image = piece.line / a.rows.out, y = piece.line % a.rows.out;
  const int64_t top = y * a.rows.stride - a.rows.begin;
  const float* picture = a.x + image * a.image_step + top * a.rows.step;
  Group g{nullptr,
          a.w,
          a.bias,
          nullptr,
          nullptr,
          nullptr,
          taps_inside(a.rows, top),
          {},
          a.columns.kernel,
          a.channels,
          a.rows.dilation * a.rows.step,
          a.columns.dilation * a.columns.step,
          a.columns.stride * a.columns.step,
          piece.sums.stride,
          a.residual_stride,
          1,
          a.finish,
          a.before,
          a.after,
          a.program.quotient};
  some_outputs<op>(a, piece, picture, piece.first, piece.last, g);
}

Sums sums_of(const ChannelwiseArgs& a, int64_t place, const Worker& worker) {
  if (a.bytes == nullptr) return {a.out + place, a.out_stride, nullptr};
  if (a.quantizes) return {nullptr, a.out_stride, static_cast<uint8_t*>(a.bytes) + place};
  return {static_cast<float*>(static_cast<void*>(worker.scratch)), a.channels, nullptr};
}

void run_line(const ChannelwiseArgs& a, int64_t line, int64_t first, int64_t last,
              const Worker& worker) {
  const int64_t place = (line * a.columns.out + first) * a.out_stride;
  const Piece piece{line, first, last, sums_of(a, place, worker)};
  if (a.op == ChannelwiseOp::depthwise) run_piece<ChannelwiseOp::depthwise>(a, piece);
  if (a.op == ChannelwiseOp::max) run_piece<ChannelwiseOp::max>(a, piece);
  if (a.op == ChannelwiseOp::average) run_piece<ChannelwiseOp::average>(a, piece);
  if (a.finish != ChannelwiseFinish::program) return;
  const Sums& sums = piece.sums;
  const EltOperand operand{sums.first, sums.stride, 1};
  EltStrip strip{&operand, sums.first, sums.stride, last - first, a.channels};
  if (a.bytes != nullptr) {
    strip.out = static_cast<char*>(a.bytes) + place;
    strip.out_row_stride = a.out_stride;
    strip.out_type = a.bytes_type;
  }
  a.strip(a.program, strip);
}

void run_tile(const ChannelwiseArgs& a, int64_t tile, const Worker& worker) {
  if (a.generated != nullptr) return a.generated(&a, tile, worker);
  const ChannelwiseTile t = tile_of(a, tile);
  for (int64_t line = t.first_line; line < t.last_line; ++line) {
    run_line(a, line, t.first, t.last, worker);
  }
}

}  // namespace
}  // namespace planck
