#pragma once
// The greatest byte of each channel in windows; channels are innermost. What channelwise is for
// floats.
#include <cstdint>

#include "kernels/job.h"
#include "kernels/window.h"

namespace planck {

// Padding is left out; a window without any place inside gives the lowest byte.
struct BytePoolArgs {
  const uint8_t* x;
  uint8_t* out;
  WindowSteps rows, columns;
  int64_t images, channels;
  int64_t image_step;  // of x
  int64_t out_stride;  // from place to place, all axes alike
  bool is_signed;
  int64_t places;  // of one tile, in one row of the output
};

#define PLANCK_BYTE_POOL(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/byte_pool/kernels.inc"
#undef PLANCK_BYTE_POOL

}  // namespace planck
