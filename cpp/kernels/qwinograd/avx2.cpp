#include <immintrin.h>

#include "kernels/qwinograd/qwinograd.h"

namespace planck {
namespace {

constexpr int kIn = kQwinogradIn, kOut = kQwinogradOut, kPoints = kQwinogradPoints;
constexpr int64_t kLanes = kQwinogradLanes;

#define PLANCK_INLINE inline __attribute__((always_inline))

// B^T d, of 16 channels.
PLANCK_INLINE void transform_in(const __m256i* d, int step, __m256i* v) {
  v[0] = _mm256_sub_epi16(d[0], d[2 * step]);
  v[1] = _mm256_add_epi16(d[step], d[2 * step]);
  v[2] = _mm256_sub_epi16(d[2 * step], d[step]);
  v[3] = _mm256_sub_epi16(d[step], d[3 * step]);
}

// Loads come as load(place).
PLANCK_INLINE void input_lanes(const auto& load, int16_t* v, int64_t point_step) {
  __m256i rows[kPoints];
#pragma GCC unroll 4
  for (int y = 0; y < kIn; ++y) {
    __m256i d[kIn];
#pragma GCC unroll 4
    for (int x = 0; x < kIn; ++x) d[x] = _mm256_cvtepu8_epi16(load(y * kIn + x));
    transform_in(d, 1, rows + y * kIn);
  }
#pragma GCC unroll 4
  for (int x = 0; x < kIn; ++x) {
    __m256i column[kIn];
    transform_in(rows + x, kIn, column);
#pragma GCC unroll 4
    for (int y = 0; y < kIn; ++y) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(v + (y * kIn + x) * point_step), column[y]);
    }
  }
}

__m128i first_bytes(const uint8_t* from, int64_t count) {
  alignas(16) uint8_t bytes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) bytes[i] = from[i];
  return _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
}

// A^T m, of eight columns.
PLANCK_INLINE void transform_out(const __m256i* m, int step, __m256i* y) {
  y[0] = _mm256_add_epi32(_mm256_add_epi32(m[0], m[step]), m[2 * step]);
  y[1] = _mm256_sub_epi32(_mm256_sub_epi32(m[step], m[2 * step]), m[3 * step]);
}

// All 2 x 2 outputs.
PLANCK_INLINE void output_lanes(const int32_t* m, int64_t point_step, __m256i* y) {
  __m256i rows[kOut * kIn];
#pragma GCC unroll 4
  for (int x = 0; x < kIn; ++x) {
    __m256i d[kIn], column[kOut];
#pragma GCC unroll 4
    for (int i = 0; i < kIn; ++i) {
      const int32_t* from = m + (i * kIn + x) * point_step;
      d[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }
    transform_out(d, 1, column);
    rows[x] = column[0], rows[kIn + x] = column[1];
  }
#pragma GCC unroll 2
  for (int i = 0; i < kOut; ++i) {
    transform_out(rows + i * kIn, 1, y + i * kOut);
#pragma GCC unroll 2
    for (int j = 0; j < kOut; ++j) y[i * kOut + j] = _mm256_srai_epi32(y[i * kOut + j], 2);
  }
}

PLANCK_INLINE void store(int32_t* to, __m256i x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x);
}

}  // namespace

void qwinograd_u8_2x2_avx2_input(const QwinogradInput& given) {
  const QwinogradInput in = given;  // stores of vectors may alias what is given
  const uint8_t* place[kPoints];
  for (int i = 0; i < kPoints; ++i) place[i] = in.place[i];
  int64_t channel = 0;
  for (; channel + kLanes <= in.channels; channel += kLanes) {
    const auto load = [&](int i) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(place[i] + channel));
    };
    input_lanes(load, in.v + channel, in.point_step);
  }
  if (channel == in.channels) return;
  const auto load = [&](int i) { return first_bytes(place[i] + channel, in.channels - channel); };
  input_lanes(load, in.v + channel, in.point_step);
}

void qwinograd_u8_2x2_avx2_output(const QwinogradOutput& given) {
  const QwinogradOutput o = given;
  constexpr int64_t kHalf = 8;
  for (int64_t half = 0; half < kLanes; half += kHalf) {
    __m256i y[kOut * kOut];
    output_lanes(o.m + half, o.point_step, y);
    if (o.rows == kOut && o.columns == kOut) {
      int32_t* to = o.sums + half;
      store(to, y[0]), store(to + kLanes, y[1]);
      store(to + o.row_step, y[2]), store(to + o.row_step + kLanes, y[3]);
      continue;
    }
    for (int64_t row = 0; row < o.rows; ++row) {
      for (int64_t i = 0; i < o.columns; ++i) {
        store(o.sums + row * o.row_step + i * kLanes + half, y[row * kOut + i]);
      }
    }
  }
}

}  // namespace planck
