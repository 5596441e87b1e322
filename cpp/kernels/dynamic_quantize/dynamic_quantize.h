#pragma once
// A whole tensor in bytes, whose scale follows from its own extremes: two jobs over the same parts,
// the second one after the first.
#include <cstdint>

#include "kernels/job.h"

namespace planck {

inline constexpr int64_t kQuantizeParts = 64;  // at most; each tile of the second job reads all

struct FloatRange {
  float low, high;  // zero lies between them
};

// out = clamp(round(x / scale) + zero, 0, 255), halves to even, NaN as 0, where
// scale = (high - low) / 255 and zero = clamp(round(-low / scale), 0, 255) in fp32; low and high
// are the extremes of x and 0, NaN left out. A scale of 0 gives zeros.
struct DynamicQuantizeArgs {
  const float* x;
  uint8_t* out;
  float* scale;
  uint8_t* zero;
  FloatRange* ranges;  // of each part: what the first job hands to the second
  int64_t count, part;
  int64_t parts;  // at least one
};

#define PLANCK_DYNAMIC_QUANTIZE(name, isa)                                 \
  void name##_range(const void* args, int64_t tile, const Worker& worker); \
  void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/dynamic_quantize/kernels.inc"
#undef PLANCK_DYNAMIC_QUANTIZE

}  // namespace planck
