#pragma once
// Which places a resized axis reads and how much each counts, as ONNX's Resize says: what the op's
// reference and the tables of its kernels have in common.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace planck {

struct ResampleRule {
  std::string mode = "nearest";                 // linear, cubic
  std::string coordinates = "half_pixel";       // coordinate_transformation_mode
  std::string rounding = "round_prefer_floor";  // nearest_mode
  double cubic_a = -0.75;
  bool antialias = false, exclude_outside = false;
  static void fields(auto& s, auto& visit) {
    visit("mode", s.mode);
    visit("coordinates", s.coordinates);
    visit("rounding", s.rounding);
    visit("cubic_a", s.cubic_a);
    visit("antialias", s.antialias);
    visit("exclude_outside", s.exclude_outside);
  }
};

// GraphError for a word that names no mode, coordinates or rounding.
void check_rule(const ResampleRule& rule);

struct ResampledAxis {
  int64_t in = 1, out = 1;
  double scale = 1;                   // out / in, or what the model says
  double roi_begin = 0, roi_end = 1;  // tf_crop_and_resize
};

// `taps` places of the input for each of the output, clamped into the axis, and their weights.
struct ResampleTable {
  int64_t taps = 1;
  std::vector<int64_t> places;  // -1: the extrapolation value stands here
  std::vector<double> weights;
};

// RunError where a filter were wider than a few times the axis, or the axis is empty.
ResampleTable resample_table(const ResampleRule& rule, const ResampledAxis& axis);

}  // namespace planck
