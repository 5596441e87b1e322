#pragma once
// A convolution as a product: A is not in memory, its rows are windows over a picture whose
// channels are innermost. A block of them is gathered when a tile needs it (implicit im2col:
// K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document
// Processing", 2006).
#include <cstdint>
#include <span>

#include "kernels/window.h"

namespace planck {

// A run of channels that lies by itself, each of its places for `repeat` x `repeat` of the picture.
struct WindowPart {
  const float* first = nullptr;
  int64_t channels = 0, repeat = 1;
  int64_t image_step = 0, y_step = 0, x_step = 0;  // floats

  // Its channels at a place of the picture.
  const float* at(int64_t image, int64_t y, int64_t x) const {
    return first + image * image_step + y / repeat * y_step + x / repeat * x_step;
  }
};
inline constexpr size_t kMostParts = 16;

// Row m of A is window (image, y, x), row-major; column k is (tap in y, tap in x, channel). What
// lies in the padding is 0.
struct MatmulWindows {
  WindowSteps y, x;
  int64_t channels = 0;
  int64_t image_step = 0;
  int64_t channel_step = 1;  // other than 1: planes, whose places are copied one by one
  // Not empty: the channels come from these, one behind the other, and the steps of y, x and images
  // mean nothing.
  std::span<const WindowPart> parts = {};
  // Whether neighbouring places are one run in memory.
  bool dense() const { return parts.empty() && channel_step == 1 && x.step == channels; }
  int64_t k() const { return y.kernel * x.kernel * channels; }
};

// Writes rows [row, row + rows) x columns [k, k + count) of A to `to`, `pitch` floats a row.
void gather_windows(const MatmulWindows& windows, const float* picture, int64_t row, int64_t rows,
                    int64_t k, int64_t count, float* to, int64_t pitch);

// One line of taps of the window whose first tap lies at `x`, perhaps outside; the taps are
// neighbours in memory (no dilation, dense channels).
void copy_taps(const MatmulWindows& windows, const float* line, int64_t x, float* to);

// Where the taps of a line are neighbours (no dilation), windows side by side overlap in memory: a
// band of whole lines with their padding serves as A for a row of outputs, whose rows lie
// x.stride * channels floats apart, one line of taps at a time.
struct WindowBand {
  int64_t lines = 0, pitch = 0;  // pitch: floats
};
WindowBand band_of(const MatmulWindows& windows, int64_t output_rows);
// Copies the lines that outputs of an image from row `first` on read; the picture is that of all
// images, and not looked at where channels come in parts.
void copy_band(const MatmulWindows& windows, const WindowBand& band, const float* picture,
               int64_t image, int64_t first, float* to);

}  // namespace planck
