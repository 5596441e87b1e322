#pragma once
// What a grid costs: the expected (x - q(x))^2 over a histogram, with the quantiser as deployed.
#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "quant/collector.h"

namespace planck {

// real = scale * (q - zero_point), q of an 8-bit type.
struct Grid {
  DType dtype = DType::s8;
  float scale = 1;
  int32_t zero_point = 0;
  int32_t steps_above() const { return (dtype == DType::s8 ? 127 : 255) - zero_point; }
  int32_t steps_below() const { return zero_point - (dtype == DType::s8 ? -128 : 0); }
};

// s8: symmetric, saturates at |x| = threshold. u8: over [max(min, -threshold), min(max, threshold)]
// widened to hold 0, which falls on a step.
Grid grid_of(DType dtype, double threshold, const Histogram& h);

// x is taken as uniform inside its bin, which for the outermost bins ends at the extremum; zeros
// are exact. Sums run in a fixed order in double.
class GridError {
 public:
  explicit GridError(const Histogram& h);

  // Mean over all finite elements; 0 where there are none.
  double operator()(const Grid& grid) const;
  // The mean of x^2, by the same reading of the histogram.
  double signal() const;

 private:
  struct Side {
    std::vector<double> drop;   // drop[j]: elements of bin j-1 less those of bin j, whole bins only
    double start = 0, end = 0;  // of the outermost bin
    double outermost = 0;       // elements in it
  };
  Side pos_, neg_;
  double width_ = 0;
  double count_ = 0;

  static Side side_of(const Bins& bins, double width, double extremum);
  double sum(const Side& side, double scale, double steps) const;
};

// 10 log10(error / best): how many dB an error is worse than another.
double decibel_lost(double error, double best);

}  // namespace planck
