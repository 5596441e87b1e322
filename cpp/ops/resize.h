#pragma once
#include "base/resample.h"
#include "ops/declare.h"

namespace planck::ops {

// Inputs: x, region of interest (tf_crop_and_resize), and either scales (f32) or sizes.
// Every output place is a weighted sum of the places around its coordinate in x, axis by axis.
struct Resize {
  PLANCK_OP_FACTS(Resize, rounding, 1, 4)
  int64_t antialias = 0;
  std::vector<int64_t> axes;  // of roi, scales and sizes; empty: all
  std::string coordinate_transformation_mode = "half_pixel";
  double cubic_coeff_a = -0.75;
  int64_t exclude_outside = 0;
  double extrapolation_value = 0;
  std::string keep_aspect_ratio_policy = "stretch";
  std::string mode = "nearest";
  std::string nearest_mode = "round_prefer_floor";

  static void fields(auto& self, auto&& visit) {
    visit("antialias", self.antialias);
    visit("axes", self.axes);
    visit("coordinate_transformation_mode", self.coordinate_transformation_mode);
    visit("cubic_coeff_a", self.cubic_coeff_a);
    visit("exclude_outside", self.exclude_outside);
    visit("extrapolation_value", self.extrapolation_value);
    visit("keep_aspect_ratio_policy", self.keep_aspect_ratio_policy);
    visit("mode", self.mode);
    visit("nearest_mode", self.nearest_mode);
  }
  ResampleRule rule() const {
    return {mode,           coordinate_transformation_mode,
            nearest_mode,   cubic_coeff_a,
            antialias != 0, exclude_outside != 0};
  }
};

}  // namespace planck::ops
