#pragma once
// Local response normalisation: each number by a power of the squares of its neighbour channels.
#include <cstdint>

#include "kernels/job.h"

namespace planck {

// out[o, c, i] = x / (bias + alpha sum)^beta, with the sum of the squares of channels
// [c - before, c + after], from the first one on; dense [outer, channels, inner].
struct LrnArgs {
  const float* x;
  float* out;
  int64_t outer, channels, inner;
  int64_t before, after;
  float alpha, beta, bias;  // alpha: of the sum
  int64_t block;            // of one tile: rows where inner is 1, else places
};

#define PLANCK_LRN(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/lrn/kernels.inc"
#undef PLANCK_LRN

}  // namespace planck
