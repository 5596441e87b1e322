#pragma once
// A band of lines (windows.h) for kernels of pairs: output x of a line goes with output
// x + outputs_apart, so that the places which two windows read lie side by side, channel by
// channel: [line][place][channel][2]. Where a line has an odd number of outputs, the one in the
// middle is in two pairs.
#include <cstdint>

#include "kernels/matmul/windows.h"

namespace planck {

inline int64_t pairs_of_line(const MatmulWindows& w) { return (w.x.out + 1) / 2; }
inline int64_t outputs_apart(const MatmulWindows& w) { return w.x.out - pairs_of_line(w); }

// The windows overlap, without gaps between taps. Throws ValueError where sizes do not fit.
WindowBand pair_band_of(const MatmulWindows& windows, int64_t output_rows);
// As copy_band.
void copy_pair_band(const MatmulWindows& windows, const WindowBand& band, const float* picture,
                    int64_t image, int64_t first, float* to);

// to[2 i] = a[i], to[2 i + 1] = b[i]; where one is null, 0.
void interleave_f32_avx512(const float* a, const float* b, int64_t count, float* to);
// The same of three planes, `step` apart: to[6 i + 2 c] = a[i + c * step], and so on. None is null.
void interleave_planes_f32_avx512(const float* a, const float* b, int64_t step, int64_t count,
                                  float* to);
// Places of a line of a part, of which the first one stands for `left` more of the picture.
struct PartPlaces {
  const float* first = nullptr;
  int64_t left = 1;
};
// The channels of a part at `count` places of the picture: to[place * pitch + 2 i] is channel i of
// a, and so on; where one is null, 0.
void interleave_part_f32_avx512(const WindowPart& part, PartPlaces a, PartPlaces b, int64_t count,
                                int64_t pitch, float* to);

}  // namespace planck
