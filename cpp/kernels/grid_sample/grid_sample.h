#pragma once
// Pictures read at places that a run computes, by bilinear weights or from the nearest element.
#include <cstdint>

#include "kernels/job.h"

namespace planck {

// Same names as plan/plan.h's SamplePadding, which this room may not see.
enum class GridPadding : uint8_t { zeros, border, reflection };

// out[image, place] = the picture at grid[image, place]: x, then y, from -1 to 1. Coordinates are
// doubles, weights floats: with t of what lies between two columns and s between two rows,
//   ((1-s)(1-t) x00 + s(1-t) x10) + ((1-s)t x01 + s t x11)
// one fused multiply-add in each bracket, so bits depend on neither the form, nor the cut, nor the
// ISA. What lies outside reads zero and multiplies nothing. Coordinates are data of a run: any
// float is good, and one that is not finite stands for a place in front of the picture.
struct GridSampleArgs {
  const float *x, *grid;
  float* out;
  int64_t images, channels, rows, columns;               // of x
  int64_t image_step, channel_step;                      // of x
  int64_t row_step, column_step;                         // of x
  int64_t grid_image, grid_row, grid_column, axis_step;  // steps of the grid
  int64_t out_rows, out_columns;                         // of the grid
  int64_t out_image, out_channel, out_place;             // steps of out
  // Runs of `run` images lie `run_step` apart, the images of a run image_step.
  int64_t run, run_step;
  bool nearest, align_corners;
  GridPadding padding;
  // The form: channels are neighbours in x and out, or columns in x and places in out.
  bool planes;
  int64_t places;  // of one tile
  int64_t group;   // channels of one tile; all of them unless in planes
};

inline constexpr int64_t kGridPlaces = 1024;  // of a tile in planes, at most

#define PLANCK_GRID_SAMPLE(name, isa) \
  void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/grid_sample/kernels.inc"
#undef PLANCK_GRID_SAMPLE

}  // namespace planck
