#pragma once
// Windows over bytes in which each channel stays by itself: depthwise convolutions in integers, and
// maximum pools. Channels are innermost. Plain data, for ISA files too.
#include <cstdint>

#include "kernels/job.h"
#include "kernels/window.h"

namespace planck {

enum class QChannelwiseOp : uint8_t { depthwise, max };

// depthwise: v = float(offset + sum over taps inside of (x - zero) w) * multiplier, + bias, relu,
// each step rounded; the sum is exact in int32. Padding stands for zero, so that it is left out and
// the offset is the bias in units of the sums alone. Stored as f32 to out; or, where there is none,
// as bytes: clamp(rne(v) + out_zero, low, high), where NaN becomes low.
// max: the largest byte inside the picture, 0 where there is none; always bytes.
struct QChannelwiseArgs {
  QChannelwiseOp op;
  const uint8_t* x;
  uint8_t zero;
  const int8_t* w;          // [taps][channels]
  const int32_t* offset;    // [channels]
  const float* multiplier;  // [channels]
  const float* bias;        // [channels], or none
  bool relu;
  float* out;
  uint8_t* out_bytes;
  int32_t out_zero, low, high;
  WindowSteps rows, columns;
  int64_t images, channels;
  int64_t image_step;  // of x
  int64_t out_stride;  // from place to place, all axes alike
  int64_t places;      // of one tile, in one row of the output
};

#define PLANCK_QCHANNELWISE(name, isa) \
  void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/qchannelwise/kernels.inc"
#undef PLANCK_QCHANNELWISE

}  // namespace planck
