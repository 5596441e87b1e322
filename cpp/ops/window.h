#pragma once
// The geometry of convolutions and pools: windows that step over the spatial axes of [N,C,..].
#include <span>
#include <string>
#include <vector>

#include "ops/support.h"

namespace planck {

// The attributes that all of them have; an empty list is ones (dilations, strides) or zeros (pads).
struct Windowed {
  std::string auto_pad = "NOTSET";  // or VALID, SAME_UPPER, SAME_LOWER
  std::vector<int64_t> dilations, kernel_shape, pads, strides;

  static void fields(auto& self, auto&& visit) {
    visit("auto_pad", self.auto_pad);
    visit("dilations", self.dilations);
    visit("kernel_shape", self.kernel_shape);
    visit("pads", self.pads);
    visit("strides", self.strides);
  }
};

// One spatial axis.
struct WindowAxis {
  int64_t kernel = 1, stride = 1, dilation = 1;
  int64_t begin = 0, end = 0;  // padding
  int64_t reach() const { return (kernel - 1) * dilation + 1; }
};

// GraphError for lists of the wrong length, or numbers below 1 (pads: below 0) or above 2^31 - 1.
std::vector<WindowAxis> window_axes(std::string_view op, const Windowed& w,
                                    std::span<const int64_t> kernel);

// How many windows there are along each axis of extent `in`. GraphError for an unknown auto_pad.
std::vector<Dim> window_counts(const Windowed& w, const std::vector<WindowAxis>& axes,
                               std::span<const Dim> in, bool ceil_mode = false);

// Where each place of each window reads, once the extents are numbers.
class Windows {
 public:
  Windows(const Windowed& w, std::vector<WindowAxis> axes, Shape in, bool ceil_mode = false);

  const std::vector<WindowAxis>& axes() const { return axes_; }  // with the padding of SAME
  const Shape& in() const { return in_; }
  const Shape& out() const { return out_; }
  int64_t count() const { return count_; }  // windows
  int64_t taps() const { return taps_; }    // places of one window
  // The element of the input that a place of a window reads, row-major over the spatial axes;
  // -1 in the padding, -2 beyond it (ceil_mode lets the last window stick out).
  int64_t source(int64_t window, int64_t tap) const;

 private:
  std::vector<WindowAxis> axes_;
  Shape in_, out_, kernel_;
  int64_t count_ = 1, taps_ = 1;
};

}  // namespace planck
