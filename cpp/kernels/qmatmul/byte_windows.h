#pragma once
// Windows over pictures of bytes, as kernels/matmul/windows.h has them over floats; what lies in
// the padding reads as the zero point.
#include <cstdint>

#include "kernels/matmul/windows.h"

namespace planck {

// Writes rows [row, row + rows) of A to `to`, `pitch` bytes a row.
void gather_windows(const MatmulWindows& windows, const uint8_t* picture, uint8_t zero, int64_t row,
                    int64_t rows, uint8_t* to, int64_t pitch);

// A band: the whole lines, padding included, that some rows of outputs of one image read. Where the
// taps of a line are neighbours, windows side by side overlap in it.
struct ByteBand {
  int64_t lines = 0, pitch = 0;  // pitch: bytes
  int64_t bytes() const { return lines * pitch; }
};
ByteBand byte_band(const MatmulWindows& windows, int64_t output_rows);
// Copies the lines that outputs from row `first` on read; `image` is the image's first place.
void copy_band(const MatmulWindows& windows, const ByteBand& band, const uint8_t* image,
               uint8_t zero, int64_t first, uint8_t* to);

// Whether every window lies inside the picture.
bool never_padded(const MatmulWindows& windows);

}  // namespace planck
