#pragma once
// Sixteen floats as two AVX2 registers. Every ISA has the same F16, I16 and M16 with the same
// functions, so one source (simd/math.h and the *_impl.h of the families) serves all, in the same
// order of operations and with the same roundings: the bits do not depend on the ISA. Products and
// sums contract only where the source says fma. Internal linkage: each ISA file has its own copy.
#include <immintrin.h>

#include <cstdint>

#define PLANCK_INLINE inline __attribute__((always_inline))

namespace planck {
namespace {

struct F16 {
  __m256 a, b;
};
struct I16 {
  __m256i a, b;
};
struct M16 {
  __m256 a, b;  // all bits of a lane set, or none
};

PLANCK_INLINE F16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
PLANCK_INLINE I16 set1i(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
PLANCK_INLINE F16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
PLANCK_INLINE void store(float* p, F16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}

// Lanes below n, 0 <= n <= 16.
PLANCK_INLINE M16 first_lanes(int64_t n) {
  const __m256i count = _mm256_set1_epi32(static_cast<int>(n));
  const __m256i low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, low)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, high))};
}
// The first n lanes; the others are 0 and their memory is not touched.
PLANCK_INLINE F16 load_first(const float* p, int64_t n) {
  const M16 m = first_lanes(n);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.a)),
          _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.b))};
}
// By powers of two: masked stores are slow on some machines.
PLANCK_INLINE void store_first(float* p, F16 x, int64_t n) {
  if (n >= 16) return store(p, x);
  __m256 rest = x.a;
  if (n >= 8) {
    _mm256_storeu_ps(p, x.a);
    rest = x.b;
    p += 8;
  }
  __m128 four = _mm256_castps256_ps128(rest);
  if ((n & 4) != 0) {
    _mm_storeu_ps(p, four);
    four = _mm256_extractf128_ps(rest, 1);
    p += 4;
  }
  if ((n & 2) != 0) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), four);
    four = _mm_movehl_ps(four, four);
    p += 2;
  }
  if ((n & 1) != 0) _mm_store_ss(p, four);
}

// Four floats of each of four places.
PLANCK_INLINE F16 load_quads(const float* a, const float* b, const float* c, const float* d) {
  return {_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a)), _mm_loadu_ps(b), 1),
          _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(c)), _mm_loadu_ps(d), 1)};
}
PLANCK_INLINE void transpose_quads(__m256& a, __m256& b, __m256& c, __m256& d) {
  const __m256d low_ab = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
  const __m256d low_cd = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
  const __m256d high_ab = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
  const __m256d high_cd = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
  a = _mm256_castpd_ps(_mm256_unpacklo_pd(low_ab, low_cd));
  b = _mm256_castpd_ps(_mm256_unpackhi_pd(low_ab, low_cd));
  c = _mm256_castpd_ps(_mm256_unpacklo_pd(high_ab, high_cd));
  d = _mm256_castpd_ps(_mm256_unpackhi_pd(high_ab, high_cd));
}
// The quads of one place in four vectors are a matrix of 4 x 4, which is turned.
PLANCK_INLINE void transpose_quads(F16 (&x)[4]) {
  transpose_quads(x[0].a, x[1].a, x[2].a, x[3].a);
  transpose_quads(x[0].b, x[1].b, x[2].b, x[3].b);
}

// Two neighbours at each of eight offsets.
PLANCK_INLINE __m256 four_pairs(const float* p, const int64_t* at) {
  const auto pair = [&](int i) __attribute__((always_inline)) {
    return reinterpret_cast<const __m64*>(p + at[i]);
  };
  const __m128 none = _mm_setzero_ps();
  const __m128 low = _mm_loadh_pi(_mm_loadl_pi(none, pair(0)), pair(1));
  const __m128 high = _mm_loadh_pi(_mm_loadl_pi(none, pair(2)), pair(3));
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}
PLANCK_INLINE F16 load_pairs(const float* p, const int64_t* at) {
  return {four_pairs(p, at), four_pairs(p, at + 4)};
}
// The sums of neighbours: those of x, then those of y.
PLANCK_INLINE F16 add_pairs(F16 x, F16 y) {
  const auto sums = [](__m256 a, __m256 b) __attribute__((always_inline)) {
    const __m256d halves = _mm256_castps_pd(_mm256_hadd_ps(a, b));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(halves, 0b11'01'10'00));
  };
  return {sums(x.a, x.b), sums(y.a, y.b)};
}

PLANCK_INLINE F16 operator+(F16 x, F16 y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
PLANCK_INLINE F16 operator-(F16 x, F16 y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
PLANCK_INLINE F16 operator*(F16 x, F16 y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
PLANCK_INLINE F16 operator/(F16 x, F16 y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
// x * y + z, one rounding.
PLANCK_INLINE F16 fma(F16 x, F16 y, F16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
// z - x * y, one rounding.
PLANCK_INLINE F16 fnma(F16 x, F16 y, F16 z) {
  return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
}

// Floats of one register, of which an F16 has one or two.
constexpr int kRegisterLanes = 8;

// x < y ? x : y, thus y where either is NaN.
PLANCK_INLINE F16 min2(F16 x, F16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
// x > y ? x : y, thus y where either is NaN.
PLANCK_INLINE F16 max2(F16 x, F16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
PLANCK_INLINE F16 sqrt(F16 x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
// Rounds towards zero, to a whole number.
PLANCK_INLINE F16 trunc(F16 x) {
  constexpr int kMode = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, kMode), _mm256_round_ps(x.b, kMode)};
}

PLANCK_INLINE I16 bits(F16 x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
PLANCK_INLINE F16 floats(I16 x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
PLANCK_INLINE F16 to_float(I16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
// Sixteen integers, bytes widened.
PLANCK_INLINE I16 load_s32(const void* p) {
  const auto* at = static_cast<const __m256i_u*>(p);
  return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}
PLANCK_INLINE I16 load_u8(const void* p) {
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i_u*>(p));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
PLANCK_INLINE I16 load_s8(const void* p) {
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i_u*>(p));
  return {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
}
// Whole numbers in [-128, 255], of each the low byte.
// The nearest whole numbers, + zero, between 0 and 255; NaN and what leaves int32 become 0. Packing
// interleaves halves.
PLANCK_INLINE __m256i level_words(F16 x, int32_t zero) {
  const __m256i both = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
  return _mm256_adds_epi16(both, _mm256_set1_epi16(static_cast<int16_t>(zero)));
}
PLANCK_INLINE __m256i level_bytes(F16 x, F16 y, int32_t zero) {
  const __m256i bytes = _mm256_packus_epi16(level_words(x, zero), level_words(y, zero));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
PLANCK_INLINE void store_levels(void* p, F16 x, int32_t zero) {
  const __m256i bytes = level_bytes(x, x, zero);
  _mm_storeu_si128(static_cast<__m128i_u*>(p), _mm256_castsi256_si128(bytes));
}
PLANCK_INLINE void store_levels(void* p, const F16 (&x)[4], int32_t zero) {
  auto* to = static_cast<__m256i_u*>(p);
  _mm256_storeu_si256(to, level_bytes(x[0], x[1], zero));
  _mm256_storeu_si256(to + 1, level_bytes(x[2], x[3], zero));
}
PLANCK_INLINE void store_bytes(void* p, F16 x) {
  const __m256i low = _mm256_set1_epi32(0xFF);
  const __m256i a = _mm256_and_si256(_mm256_cvtps_epi32(x.a), low);
  const __m256i b = _mm256_and_si256(_mm256_cvtps_epi32(x.b), low);
  // Packing works in halves of the register: their words come out as a, b, a, b.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0b11'01'10'00);
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(static_cast<__m128i_u*>(p), bytes);
}
PLANCK_INLINE I16 operator+(I16 x, I16 y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
PLANCK_INLINE I16 operator-(I16 x, I16 y) {
  return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
PLANCK_INLINE I16 max2(I16 x, I16 y) {
  return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}
PLANCK_INLINE I16 operator&(I16 x, I16 y) {
  return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
PLANCK_INLINE I16 operator|(I16 x, I16 y) {
  return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
PLANCK_INLINE I16 operator^(I16 x, I16 y) {
  return {_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}
template <int kBits>
PLANCK_INLINE I16 shift_left(I16 x) {
  return {_mm256_slli_epi32(x.a, kBits), _mm256_slli_epi32(x.b, kBits)};
}
// Keeps the sign.
template <int kBits>
PLANCK_INLINE I16 shift_right(I16 x) {
  return {_mm256_srai_epi32(x.a, kBits), _mm256_srai_epi32(x.b, kBits)};
}

PLANCK_INLINE M16 operator<(F16 x, F16 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
PLANCK_INLINE M16 operator==(F16 x, F16 y) {
  return {_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ)};
}
PLANCK_INLINE M16 is_nan(F16 x) {
  return {_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q)};
}
PLANCK_INLINE M16 operator&(M16 x, M16 y) {
  return {_mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b)};
}
PLANCK_INLINE M16 operator|(M16 x, M16 y) {
  return {_mm256_or_ps(x.a, y.a), _mm256_or_ps(x.b, y.b)};
}
PLANCK_INLINE F16 select(M16 m, F16 yes, F16 no) {
  return {_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)};
}
// `yes` where x carries the sign bit (so for -0 and for a negative NaN too).
PLANCK_INLINE F16 select_by_sign(F16 x, F16 yes, F16 no) {
  return {_mm256_blendv_ps(no.a, yes.a, x.a), _mm256_blendv_ps(no.b, yes.b, x.b)};
}

// The tree of sum_lanes and top_lane: lane i with lane i + 8, then i + 4, i + 2, i + 1.
PLANCK_INLINE float sum_lanes(F16 x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
// Not for NaN: see top_lane in simd/math.h.
PLANCK_INLINE float max_lanes(F16 x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}
PLANCK_INLINE bool any(M16 m) { return _mm256_movemask_ps(_mm256_or_ps(m.a, m.b)) != 0; }

}  // namespace
}  // namespace planck

#include "kernels/simd/math.h"
