#pragma once
// Windows over pictures of bytes, as kernels/matmul/windows.h has them over floats; what lies in
// the padding reads as the zero point.
#include <cstdint>

#include "kernels/matmul/windows.h"

namespace planck {

// Writes rows [row, row + rows) of A to `to`, `pitch` bytes a row.
void gather_windows(const MatmulWindows& windows, const uint8_t* picture, uint8_t zero, int64_t row,
                    int64_t rows, uint8_t* to, int64_t pitch);

}  // namespace planck
