#include "kernels/jit/panels.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cstring>

#include "base/guard.h"

namespace planck::jit {
namespace {

struct Panel {
  const float* b;
  int64_t row_stride, column_stride;
  int64_t columns, k, width;
};

void pack_rows(const Panel& p, float* packed) {
  for (int64_t i = 0; i < p.k; ++i, packed += p.width) {
    std::memcpy(packed, p.b + i * p.row_stride, p.columns * sizeof(float));
  }
}

void pack_anywhere(const Panel& p, int64_t first_k, float* packed) {
  for (int64_t i = first_k; i < p.k; ++i) {
    const float* from = p.b + i * p.row_stride;
    for (int64_t j = 0; j < p.columns; ++j) packed[i * p.width + j] = from[j * p.column_stride];
  }
}

// Columns of B are contiguous: blocks of 4 x 4 are turned in registers (SSE, part of x86-64). All
// columns of four k before the next four, so that a line of the panel is written in one go.
void pack_transposed(const Panel& p, float* packed) {
  const int64_t k4 = p.k / 4 * 4, columns4 = p.columns / 4 * 4;
  for (int64_t i = 0; i < k4; i += 4) {
    float* to = packed + i * p.width;
    for (int64_t j = 0; j < columns4; j += 4) {
      const float* from = p.b + i + j * p.column_stride;
      __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + p.column_stride),
             c = _mm_loadu_ps(from + 2 * p.column_stride),
             d = _mm_loadu_ps(from + 3 * p.column_stride);
      _MM_TRANSPOSE4_PS(a, b, c, d);
      _mm_storeu_ps(to + j, a);
      _mm_storeu_ps(to + j + p.width, b);
      _mm_storeu_ps(to + j + 2 * p.width, c);
      _mm_storeu_ps(to + j + 3 * p.width, d);
    }
    for (int64_t j = columns4; j < p.columns; ++j) {
      for (int64_t r = 0; r < 4; ++r) to[r * p.width + j] = p.b[i + r + j * p.column_stride];
    }
  }
  pack_anywhere(p, k4, packed);
}

void zero_tail(const Panel& p, float* packed) {
  if (p.columns == p.width) return;
  for (int64_t i = 0; i < p.k; ++i, packed += p.width) {
    std::fill(packed + p.columns, packed + p.width, 0.0F);
  }
}

// In place, from the end on.
void repeat(int64_t floats, int64_t copies, float* packed) {
  for (int64_t i = floats - 1; i >= 0; --i) std::fill_n(packed + i * copies, copies, packed[i]);
}

}  // namespace

void pack_panels(const PanelShape& shape, const float* b, int64_t row_stride, int64_t column_stride,
                 float* packed) {
  for (int64_t j = 0; j < shape.n; j += shape.width) {
    check_guard();
    const Panel p{b + j * column_stride,
                  row_stride,
                  column_stride,
                  std::min(shape.width, shape.n - j),
                  shape.k,
                  shape.width};
    if (column_stride == 1) {
      pack_rows(p, packed);
    } else if (row_stride == 1) {
      pack_transposed(p, packed);
    } else {
      pack_anywhere(p, 0, packed);
    }
    zero_tail(p, packed);
    if (shape.copies > 1) repeat(shape.k * shape.width, shape.copies, packed);
    packed += shape.k * shape.width * shape.copies;
  }
}

void unpack_panels(const PanelShape& shape, const float* packed, float* b, int64_t row_stride,
                   int64_t column_stride) {
  for (int64_t first = 0; first < shape.n; first += shape.width) {
    check_guard();
    const int64_t columns = std::min(shape.width, shape.n - first);
    for (int64_t i = 0; i < shape.k; ++i, packed += shape.width * shape.copies) {
      float* to = b + i * row_stride + first * column_stride;
      for (int64_t j = 0; j < columns; ++j) to[j * column_stride] = packed[j * shape.copies];
    }
  }
}

}  // namespace planck::jit
