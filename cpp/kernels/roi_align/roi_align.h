#pragma once
// Regions of pictures, cut into cells: the mean or the largest of bilinear samples of each cell.
#include <cstdint>

#include "kernels/job.h"

namespace planck {

// As the ONNX op RoiAlign says; channels are neighbours in x. Places are doubles, weights floats.
// A mean adds rows of samples, each a sum over columns, weights of one element as one: by fused
// multiply-adds, so bits depend on neither the cut nor the ISA. Samples more than one element
// outside count as zeros and multiply nothing.
struct RoiAlignArgs {
  const float *x, *regions;  // [count][4]: x1, y1, x2, y2
  const int64_t* pictures;   // [count]: the caller refuses what first_bad_region names
  float* out;
  int64_t images, rows, columns, channels;    // of x
  int64_t image_step, row_step, column_step;  // of x
  int64_t count;
  int64_t out_rows, out_columns;  // cells of a region
  // Steps of out: from region to region, cell to cell (all alike), channel to channel. Channels are
  // neighbours, or the cells of a channel are (`planes`).
  int64_t out_region, out_cell, out_channel;
  bool planes;
  bool largest, half_pixel;
  int64_t samples;  // along each axis of a cell; 0: as many as it has elements
  double scale;     // from coordinates of regions to those of x
  int64_t cells;    // of one tile
};

inline constexpr int64_t kRoiSamples = 64;     // along an axis, unless they follow from the region
inline constexpr double kRoiExtent = 1 << 20;  // a region is smaller than that

#define PLANCK_ROI_ALIGN(name, isa) void name(const void* args, int64_t tile, const Worker& worker);
#include "kernels/roi_align/kernels.inc"
#undef PLANCK_ROI_ALIGN

}  // namespace planck
