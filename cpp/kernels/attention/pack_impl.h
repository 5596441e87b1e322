#pragma once
// For one ISA: included by avx2.cpp, avx512.cpp and portable.cpp after their vector header. Rows of
// a head lie a few lines long and far apart in memory: they are packed next to each other.
#include "kernels/attention/softmax_row.h"

namespace planck {
namespace {

constexpr float kZeros[4] = {};

// Four columns of sixteen keys (`at` says where a key has them): a vector for each column.
template <class At>
PLANCK_INLINE void pack_quad(At at, F16 scale, int64_t width, float* to) {
  F16 x[4];
  for (int r = 0; r < 4; ++r) x[r] = load_quads(at(r), at(4 + r), at(8 + r), at(12 + r)) * scale;
  transpose_quads(x);
  for (int r = 0; r < 4; ++r) store(to + r * width, x[r]);
}

// Sixteen keys, or the n that are left. The last columns are done once more with those before them
// rather than one by one.
PLANCK_INLINE void pack_group(const HeadRows& keys, int64_t key, F16 scale, int64_t width,
                              float* to) {
  const float* from = keys.first + key * keys.stride;
  const int64_t n = keys.rows - key, stride = keys.stride;
  for (int64_t next = 0; next < keys.columns; next += 4) {
    const int64_t i = next + 4 <= keys.columns ? next : keys.columns - 4;
    if (n >= 16) {
      pack_quad(
          [=](int64_t j) __attribute__((always_inline)) { return from + j * stride + i; }, scale,
          width, to + i * width);
    } else {
      pack_quad(
          [=](int64_t j)
              __attribute__((always_inline)) { return j < n ? from + j * stride + i : kZeros; },
          scale, width, to + i * width);
    }
  }
}

void pack_few_columns(const HeadRows& keys, int64_t key, float scale, int64_t width, float* to) {
  for (int64_t i = 0; i < keys.columns; ++i) {
    for (int64_t j = 0; j < 16; ++j) {
      const bool exists = key + j < keys.rows;
      to[i * width + j] = exists ? keys.first[(key + j) * keys.stride + i] * scale : 0.0F;
    }
  }
}

void pack_keys(const HeadRows& keys, float scale, int64_t width, float* packed) {
  for (int64_t panel = 0; panel < keys.rows; panel += width, packed += keys.columns * width) {
    for (int64_t j = 0; j < width; j += 16) {
      if (keys.columns >= 4) {
        pack_group(keys, panel + j, set1(scale), width, packed + j);
      } else {
        pack_few_columns(keys, panel + j, scale, width, packed + j);
      }
    }
  }
}

PLANCK_INLINE F16 load_some(const float* p, int64_t n) {
  return n >= 16 ? load(p) : load_first(p, n > 0 ? n : 0);
}

void pack_values(const HeadRows& values, int64_t width, int64_t panel_stride, float* packed) {
  for (int64_t panel = 0; panel < values.columns; panel += width, packed += panel_stride) {
    const float* from = values.first + panel;
    const int64_t n = values.columns - panel;
    float* to = packed;
    for (int64_t i = 0; i < values.rows; ++i, from += values.stride, to += width) {
      for (int64_t j = 0; j < width; j += 16) store(to + j, load_some(from + j, n - j));
    }
  }
}

}  // namespace
}  // namespace planck
