#pragma once
// Packed B: [ceil(n / width)][k][width][copies], zeros where n ends.
#include <cstdint>

namespace planck::jit {

// B is [k, n], its element [i, j] at b[i * row_stride + j * column_stride]. width is a multiple
// of 4; each element is stored so many times.
struct PanelShape {
  int64_t n, k, width, copies = 1;
};
void pack_panels(const PanelShape& shape, const float* b, int64_t row_stride, int64_t column_stride,
                 float* packed);
void unpack_panels(const PanelShape& shape, const float* packed, float* b, int64_t row_stride,
                   int64_t column_stride);

}  // namespace planck::jit
