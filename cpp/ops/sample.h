#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: x [N, C, d1..], grid [N, o1.., r] of places in x, from -1 to 1 along each of its r axes,
// the last axis first. y [N, C, o1..] is interpolated at these places.
struct GridSample {
  PLANCK_OP_FACTS(GridSample, reduction, 2, 2)
  int64_t align_corners = 0;           // 1: -1 and 1 are the middles of the outermost elements
  std::string mode = "linear";         // nearest, linear, cubic
  std::string padding_mode = "zeros";  // zeros, border, reflection
  static void fields(auto& self, auto&& visit) {
    visit("align_corners", self.align_corners);
    visit("mode", self.mode);
    visit("padding_mode", self.padding_mode);
  }
};

// Inputs: x [N, C, H, W], regions [R, 4] as x1, y1, x2, y2, the picture of each region [R].
// y [R, C, output_height, output_width]: the mean or the largest of samples in each cell.
struct RoiAlign {
  PLANCK_OP_FACTS(RoiAlign, reduction, 3, 3)
  std::string coordinate_transformation_mode = "half_pixel";  // or output_half_pixel
  std::string mode = "avg";                                   // or max
  int64_t output_height = 1, output_width = 1;
  int64_t sampling_ratio = 0;  // samples along each axis of a cell; 0: as many as it has elements
  double spatial_scale = 1;    // from coordinates of regions to those of x
  static void fields(auto& self, auto&& visit) {
    visit("coordinate_transformation_mode", self.coordinate_transformation_mode);
    visit("mode", self.mode);
    visit("output_height", self.output_height);
    visit("output_width", self.output_width);
    visit("sampling_ratio", self.sampling_ratio);
    visit("spatial_scale", self.spatial_scale);
  }
};

}  // namespace planck::ops
