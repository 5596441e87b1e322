#include <immintrin.h>

#include <cstdint>

namespace planck {
namespace {

// Eight columns of x (steps of x_step) become eight rows of out.
inline void transpose_block(const uint32_t* x, int64_t x_step, uint32_t* out, int64_t out_step) {
  __m256 v[8], pair[8], quad[8];
  for (int i = 0; i < 8; ++i) {
    v[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(x + i * x_step));
  }
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(reinterpret_cast<float*>(out + i * out_step),
                     _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
    _mm256_storeu_ps(reinterpret_cast<float*>(out + (i + 4) * out_step),
                     _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
  }
}

// The same of bytes: pairs, fours and eights of neighbouring columns.
inline void transpose_block(const uint8_t* x, int64_t x_step, uint8_t* out, int64_t out_step) {
  __m128i pair[4], four[4];
  for (int i = 0; i < 4; ++i) {
    const auto* even = reinterpret_cast<const __m128i_u*>(x + int64_t{2} * i * x_step);
    const auto* odd = reinterpret_cast<const __m128i_u*>(x + (int64_t{2} * i + 1) * x_step);
    pair[i] = _mm_unpacklo_epi8(_mm_loadl_epi64(even), _mm_loadl_epi64(odd));
  }
  for (int i = 0; i < 4; i += 2) {
    four[i] = _mm_unpacklo_epi16(pair[i], pair[i + 1]);
    four[i + 1] = _mm_unpackhi_epi16(pair[i], pair[i + 1]);
  }
  for (int i = 0; i < 2; ++i) {  // rows 4 i to 4 i + 3
    const __m128i rows[] = {_mm_unpacklo_epi32(four[i], four[i + 2]),
                            _mm_unpackhi_epi32(four[i], four[i + 2])};
    for (int j = 0; j < 2; ++j) {
      uint8_t* to = out + (int64_t{4} * i + int64_t{2} * j) * out_step;
      _mm_storel_epi64(reinterpret_cast<__m128i_u*>(to), rows[j]);
      _mm_storel_epi64(reinterpret_cast<__m128i_u*>(to + out_step),
                       _mm_unpackhi_epi64(rows[j], rows[j]));
    }
  }
}

inline float float_of_half(uint16_t bits) { return _cvtsh_ss(bits); }
inline uint16_t half_of_float(float x) {
  return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// Three columns of x become rows of three.
inline void interleave_three(const uint32_t* x, int64_t x_step, int64_t rows, uint32_t* out,
                             int64_t out_step) {
  int64_t r = 0;
  const auto column = [&](int c) {
    return _mm_loadu_ps(reinterpret_cast<const float*>(x + r + c * x_step));
  };
  for (; out_step == 3 && r + 4 <= rows; r += 4) {
    const __m128 a = column(0), b = column(1), c = column(2);
    const __m128 ab_low = _mm_unpacklo_ps(a, b), ab_high = _mm_unpackhi_ps(a, b);
    const __m128 c0_a1 = _mm_shuffle_ps(c, a, 0b01'01'00'00);
    const __m128 b1_c1 = _mm_shuffle_ps(b, c, 0b01'01'01'01);
    const __m128 c2_a3 = _mm_shuffle_ps(c, a, 0b11'11'10'10);
    const __m128 b3_c3 = _mm_shuffle_ps(b, c, 0b11'11'11'11);
    auto* to = reinterpret_cast<float*>(out + r * 3);
    _mm_storeu_ps(to, _mm_shuffle_ps(ab_low, c0_a1, 0b10'00'01'00));
    _mm_storeu_ps(to + 4, _mm_shuffle_ps(b1_c1, ab_high, 0b01'00'10'00));
    _mm_storeu_ps(to + 8, _mm_shuffle_ps(c2_a3, b3_c3, 0b10'00'10'00));
  }
  for (; r < rows; ++r) {
    for (int c = 0; c < 3; ++c) out[r * out_step + c] = x[r + c * x_step];
  }
}

}  // namespace
}  // namespace planck

// The walk is written in terms of transpose_block, conversions in terms of halves.
#include "kernels/layout/copy_impl.h"

namespace planck {

void copy_any_8x8_avx2(const void* args, int64_t tile, const Worker&) {
  run_copy(*static_cast<const CopyArgs*>(args), tile);
}
void convert_any_1_avx2(const void* args, int64_t tile, const Worker&) {
  run_convert(*static_cast<const ConvertArgs*>(args), tile);
}

}  // namespace planck
