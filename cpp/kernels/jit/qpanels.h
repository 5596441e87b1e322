#pragma once
// Packed s8 weights: [ceil(n / width)][k rounded up / group][width][group], zeros where n or k end.
#include <cstdint>

namespace planck::jit {

// B is [k, n], its element [i, j] at b[i * row_stride + j * column_stride].
struct QPanelShape {
  int64_t n, k, width, group;
  int64_t k_step;       // k is padded to a multiple of it; a multiple of group
  bool proves = false;  // panels are split as qproofs.h says; of 16 columns in groups of 4
};

int64_t panel_bytes(const QPanelShape& shape);
// Whether what panels say about themselves is so.
bool proofs_hold(const QPanelShape& shape, const int8_t* packed);

int64_t packed_bytes(const QPanelShape& shape);
void pack_panels(const QPanelShape& shape, const int8_t* b, int64_t row_stride,
                 int64_t column_stride, int8_t* packed);
void unpack_panels(const QPanelShape& shape, const int8_t* packed, int8_t* b, int64_t row_stride,
                   int64_t column_stride);

}  // namespace planck::jit
