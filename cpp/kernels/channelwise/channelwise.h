#pragma once
// Windows in which each channel stays by itself: depthwise convolutions and pools. Channels are
// innermost, so that a vector holds neighbouring channels of one place.
#include <cstdint>

#include "kernels/eltwise/eltwise.h"
#include "kernels/job.h"
#include "kernels/window.h"

namespace planck::jit {
struct TapsCall;
}

namespace planck {

// Same names as plan/plan.h's ChannelwiseKind, which this room may not see.
enum class ChannelwiseOp : uint8_t { depthwise, max, average };

// What comes last: a function that is done before the store, between two scales with shifts, or any
// program.
enum class ChannelwiseFinish : uint8_t { none, relu, hard_swish, program };
struct ChannelwiseAffine {
  bool used = false;
  float scale = 1, shift = 0;  // y scale + shift, two roundings
};

// A generated kernel for so many neighbouring outputs of a line, whose windows have these places
// inside the picture; `part`: for the channels that fill no vector.
struct ChannelwiseKernel {
  int outputs, from, to;
  void (*whole)(const jit::TapsCall*);
  void (*part)(const jit::TapsCall*);
};
struct ChannelwiseKernels {
  static constexpr int kMost = 16;
  ChannelwiseKernel all[kMost];
  int count = 0;
  int64_t ahead_rows = 0;  // of the picture, which are brought to L2 early; 0: none
};
inline constexpr int64_t kMostChannelwiseLines = 4;  // of a tile

// depthwise: out = program(sum over taps of x w + bias + residual); max, average over what lies
// inside the picture. One accumulator for each output, taps in order (row by row), each step one
// fused multiply-add (max, sum): bits depend on neither the cut nor the ISA. Padding is left out,
// a window without any place inside gives 0 (max: -inf). NaN is kept.
struct ChannelwiseArgs {
  ChannelwiseOp op;
  const float* x;
  const float* w;         // depthwise: [taps][channels]
  const float* bias;      // [channels], or none
  const float* residual;  // as out, or none
  float* out;
  WindowSteps rows, columns;
  int64_t images, channels;
  int64_t image_step;                   // of x
  int64_t out_stride, residual_stride;  // from place to place, all axes alike
  bool count_padding;                   // average: over all taps
  ChannelwiseFinish finish;
  ChannelwiseAffine before, after;  // the function; not for finish program
  EltProgram program;               // finish program: operand 0 is the sum so far
  EltStripFn strip;                 // runs it
  // Where the program ends in bytes they are written here, by out_stride: behind the finish, or by
  // the program, for which the sums of a tile lie in scratch.
  void* bytes;
  EltType bytes_type;
  bool quantizes;  // the finish, then the program's quotient
  int64_t places;  // of one tile, in one row of the output
  int64_t lines;   // of one tile, of one image
  ChannelwiseKernels kernels;
  TileFn generated;  // what runs them; null where there are none
};

#define PLANCK_CHANNELWISE(name, isa) \
  void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/channelwise/kernels.inc"
#undef PLANCK_CHANNELWISE

}  // namespace planck
