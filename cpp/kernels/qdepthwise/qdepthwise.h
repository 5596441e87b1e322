#pragma once
// Depthwise convolutions of bytes: windows in which each channel stays by itself. Channels are
// innermost, so that a vector holds neighbouring channels of one place. Plain data, for ISA files
// too.
#include <cstdint>

#include "kernels/eltwise/eltwise.h"
#include "kernels/job.h"
#include "kernels/window.h"

namespace planck {

// Sums over so many taps are exact in fp32, and below 2^22: 128 * 255 * 128.
inline constexpr int64_t kQDepthwiseTaps = 128;

// As QmatmulArgs say it: with s = offset + sum over all taps of x w, exact in 32 bits, where places
// in the padding read `zero`: v = float(s) * multiplier, + bias, + residual, each step rounded;
// then the program, whose operand 1 is `operand`. Stored as f32 to out; or, where requantize is
// set, as bytes: clamp(rne(v) + out_zero, low, high), where NaN becomes low; or as the bytes that
// the program ends in. Every row gives the same bits.
struct QDepthwiseArgs {
  const uint8_t* x;
  uint8_t zero;
  // Where the run finds `zero`, or none. The sum is then offset + sum over all taps of (x - zero)
  // w, so that the offset need not know it; `padding` is all 0.
  const uint8_t* zero_at;
  const float* w;           // [taps][channels]: whole numbers from -128 to 127
  const int32_t* offset;    // [channels]
  const int32_t* padding;   // [channels]: what padding alone would give, by padding_of
  const float* multiplier;  // [channels]
  const float* bias;        // [channels], or none
  const float* residual;    // as out, or none
  float* out;
  void* bytes;  // what is not stored to out, by out_stride
  EltType bytes_type;
  bool requantize;
  int32_t out_zero, low, high;
  const EltProgram* program;  // or none; operand 0 is v
  EltOperand operand;
  EltStripFn strip;           // runs it; its sums lie in scratch where it ends in bytes
  WindowSteps rows, columns;  // at most kQDepthwiseTaps taps in a row of a window
  int64_t images, channels;
  int64_t image_step;                   // of x
  int64_t out_stride, residual_stride;  // from place to place, all axes alike
  int64_t places;                       // of one tile, in one row of the output
};

#define PLANCK_QDEPTHWISE(name, isa) \
  void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/qdepthwise/kernels.inc"
#undef PLANCK_QDEPTHWISE

}  // namespace planck
