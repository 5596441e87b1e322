#pragma once
#include <cstdint>

#include "kernels/job.h"

namespace planck {

inline constexpr int64_t kRangeTile = 2048;  // elements

// out[i] = start + i * step modulo 2^32 or 2^64, for integers of 4 or 8 bytes.
struct RangeArgs {
  int64_t start, step, count;
  int32_t bytes;
  void* out;
};

#define PLANCK_RANGE(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/range/kernels.inc"
#undef PLANCK_RANGE

}  // namespace planck
