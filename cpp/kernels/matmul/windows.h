#pragma once
// A convolution as a product: A is not in memory, its rows are windows over a picture whose
// channels are innermost. A block of them is gathered when a tile needs it (implicit im2col:
// K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document
// Processing", 2006).
#include <cstdint>

#include "kernels/window.h"

namespace planck {

// Row m of A is window (image, y, x), row-major; column k is (tap in y, tap in x, channel). What
// lies in the padding is 0.
struct MatmulWindows {
  WindowSteps y, x;
  int64_t channels = 0;
  int64_t image_step = 0;
  int64_t channel_step = 1;  // other than 1: planes, whose places are copied one by one
  // Whether neighbouring places are one run in memory.
  bool dense() const { return channel_step == 1 && x.step == channels; }
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
// Copies the lines that outputs of the image from row `first` on read; `image` is its first place.
void copy_band(const MatmulWindows& windows, const WindowBand& band, const float* image,
               int64_t first, float* to);

}  // namespace planck
