#pragma once
// Pictures of another size, channels innermost: each place of the result is a weighted sum of
// places, by one table for the rows and one for the columns.
#include <cstdint>

#include "kernels/job.h"

namespace planck {

// out[place] = sum over row taps and column taps of (row weight * column weight) * x[place]: rows
// outside, one fused multiply-add each, so bits depend on neither the cut nor the ISA. One tap in
// each axis is a copy, whatever its weight.
struct ResampleArgs {
  const float* x;
  float* out;
  int64_t images, rows, columns, channels;    // of out
  int64_t image_step, row_step, column_step;  // of x
  int64_t out_stride;                         // from place to place, all axes alike
  // [rows][row_taps] and [columns][column_taps]; places count rows and columns of x.
  const int64_t *row_places, *column_places;
  const float *row_weights, *column_weights;
  int64_t row_taps, column_taps;
  int64_t places;  // of one tile, in one row of out
};

#define PLANCK_RESAMPLE(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/resample/kernels.inc"
#undef PLANCK_RESAMPLE

}  // namespace planck
