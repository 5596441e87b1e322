#pragma once
// Sixteen floats as one AVX-512 register; the contract is the one of simd/vec_avx2.h.
//
// g++ 12 takes the undefined lanes of its own intrinsics for uninitialised variables (its bug
// 105593), at places that only a pragma for the whole file reaches.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include <cstdint>

#define PLANCK_INLINE inline __attribute__((always_inline))

namespace planck {
namespace {

struct F16 {
  __m512 a;
};
struct I16 {
  __m512i a;
};
struct M16 {
  __mmask16 a;
};

PLANCK_INLINE F16 set1(float x) { return {_mm512_set1_ps(x)}; }
PLANCK_INLINE I16 set1i(int32_t x) { return {_mm512_set1_epi32(x)}; }
PLANCK_INLINE F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
PLANCK_INLINE void store(float* p, F16 x) { _mm512_storeu_ps(p, x.a); }

// Lanes below n, 0 <= n <= 16.
PLANCK_INLINE M16 first_lanes(int64_t n) {
  return {static_cast<__mmask16>((uint32_t{1} << n) - 1)};
}
PLANCK_INLINE F16 load_first(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(first_lanes(n).a, p)};
}
PLANCK_INLINE void store_first(float* p, F16 x, int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n).a, x.a);
}

// Four floats of each of four places.
PLANCK_INLINE F16 load_quads(const float* a, const float* b, const float* c, const float* d) {
  __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(a));
  x = _mm512_insertf32x4(x, _mm_loadu_ps(b), 1);
  x = _mm512_insertf32x4(x, _mm_loadu_ps(c), 2);
  return {_mm512_insertf32x4(x, _mm_loadu_ps(d), 3)};
}
// The quads of one place in four vectors are a matrix of 4 x 4, which is turned.
PLANCK_INLINE void transpose_quads(F16 (&x)[4]) {
  const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(x[0].a, x[1].a));
  const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(x[2].a, x[3].a));
  const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(x[0].a, x[1].a));
  const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(x[2].a, x[3].a));
  x[0].a = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
  x[1].a = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
  x[2].a = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
  x[3].a = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
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
  const __m512 low = _mm512_castps256_ps512(four_pairs(p, at));
  return {_mm512_insertf32x8(low, four_pairs(p, at + 4), 1)};
}
// The sums of neighbours: those of x, then those of y.
PLANCK_INLINE F16 add_pairs(F16 x, F16 y) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
  return {
      _mm512_add_ps(_mm512_permutex2var_ps(x.a, even, y.a), _mm512_permutex2var_ps(x.a, odd, y.a))};
}

PLANCK_INLINE F16 operator+(F16 x, F16 y) { return {_mm512_add_ps(x.a, y.a)}; }
PLANCK_INLINE F16 operator-(F16 x, F16 y) { return {_mm512_sub_ps(x.a, y.a)}; }
PLANCK_INLINE F16 operator*(F16 x, F16 y) { return {_mm512_mul_ps(x.a, y.a)}; }
PLANCK_INLINE F16 operator/(F16 x, F16 y) { return {_mm512_div_ps(x.a, y.a)}; }
PLANCK_INLINE F16 fma(F16 x, F16 y, F16 z) { return {_mm512_fmadd_ps(x.a, y.a, z.a)}; }
PLANCK_INLINE F16 fnma(F16 x, F16 y, F16 z) { return {_mm512_fnmadd_ps(x.a, y.a, z.a)}; }

// Floats of one register, of which an F16 has one or two.
constexpr int kRegisterLanes = 16;

PLANCK_INLINE F16 min2(F16 x, F16 y) { return {_mm512_min_ps(x.a, y.a)}; }
PLANCK_INLINE F16 max2(F16 x, F16 y) { return {_mm512_max_ps(x.a, y.a)}; }
PLANCK_INLINE F16 sqrt(F16 x) { return {_mm512_sqrt_ps(x.a)}; }
PLANCK_INLINE F16 trunc(F16 x) {
  return {_mm512_roundscale_ps(x.a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)};
}

PLANCK_INLINE I16 bits(F16 x) { return {_mm512_castps_si512(x.a)}; }
PLANCK_INLINE F16 floats(I16 x) { return {_mm512_castsi512_ps(x.a)}; }
PLANCK_INLINE F16 to_float(I16 x) { return {_mm512_cvtepi32_ps(x.a)}; }
PLANCK_INLINE I16 load_s32(const void* p) { return {_mm512_loadu_si512(p)}; }
PLANCK_INLINE I16 load_u8(const void* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i_u*>(p)))};
}
PLANCK_INLINE I16 load_s8(const void* p) {
  return {_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i_u*>(p)))};
}
PLANCK_INLINE void store_bytes(void* p, F16 x) {
  const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.a));
  _mm_storeu_si128(static_cast<__m128i_u*>(p), bytes);
}
// The nearest whole numbers, + zero, between 0 and 255; NaN and what leaves int32 become 0.
PLANCK_INLINE void store_levels(void* p, F16 x, int32_t zero) {
  const __m512i sums = _mm512_add_epi32(_mm512_cvtps_epi32(x.a), _mm512_set1_epi32(zero));
  const __m512i positive = _mm512_max_epi32(sums, _mm512_setzero_si512());
  _mm_storeu_si128(static_cast<__m128i_u*>(p), _mm512_cvtusepi32_epi8(positive));
}
// Four vectors; packing interleaves their quarters.
PLANCK_INLINE void store_levels(void* p, const F16 (&x)[4], int32_t zero) {
  const __m512i shift = _mm512_set1_epi16(static_cast<int16_t>(zero));
  const auto words = [&](int i) __attribute__((always_inline)) {
    const __m512i both =
        _mm512_packs_epi32(_mm512_cvtps_epi32(x[i].a), _mm512_cvtps_epi32(x[i + 1].a));
    return _mm512_adds_epi16(both, shift);
  };
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes = _mm512_packus_epi16(words(0), words(2));
  _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, bytes));
}
PLANCK_INLINE I16 operator+(I16 x, I16 y) { return {_mm512_add_epi32(x.a, y.a)}; }
PLANCK_INLINE I16 operator-(I16 x, I16 y) { return {_mm512_sub_epi32(x.a, y.a)}; }
PLANCK_INLINE I16 max2(I16 x, I16 y) { return {_mm512_max_epi32(x.a, y.a)}; }
PLANCK_INLINE I16 operator&(I16 x, I16 y) { return {_mm512_and_si512(x.a, y.a)}; }
PLANCK_INLINE I16 operator|(I16 x, I16 y) { return {_mm512_or_si512(x.a, y.a)}; }
PLANCK_INLINE I16 operator^(I16 x, I16 y) { return {_mm512_xor_si512(x.a, y.a)}; }
template <int kBits>
PLANCK_INLINE I16 shift_left(I16 x) {
  return {_mm512_slli_epi32(x.a, kBits)};
}
template <int kBits>
PLANCK_INLINE I16 shift_right(I16 x) {
  return {_mm512_srai_epi32(x.a, kBits)};
}

PLANCK_INLINE M16 operator<(F16 x, F16 y) { return {_mm512_cmp_ps_mask(x.a, y.a, _CMP_LT_OQ)}; }
PLANCK_INLINE M16 operator==(F16 x, F16 y) { return {_mm512_cmp_ps_mask(x.a, y.a, _CMP_EQ_OQ)}; }
PLANCK_INLINE M16 is_nan(F16 x) { return {_mm512_cmp_ps_mask(x.a, x.a, _CMP_UNORD_Q)}; }
PLANCK_INLINE M16 operator&(M16 x, M16 y) { return {static_cast<__mmask16>(x.a & y.a)}; }
PLANCK_INLINE M16 operator|(M16 x, M16 y) { return {static_cast<__mmask16>(x.a | y.a)}; }
PLANCK_INLINE F16 select(M16 m, F16 yes, F16 no) {
  return {_mm512_mask_blend_ps(m.a, no.a, yes.a)};
}
PLANCK_INLINE F16 select_by_sign(F16 x, F16 yes, F16 no) {
  return {_mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x.a)), no.a, yes.a)};
}

PLANCK_INLINE float sum_lanes(F16 x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.a), _mm512_extractf32x8_ps(x.a, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
PLANCK_INLINE float max_lanes(F16 x) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.a), _mm512_extractf32x8_ps(x.a, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}
PLANCK_INLINE bool any(M16 m) { return m.a != 0; }

}  // namespace
}  // namespace planck

#include "kernels/simd/math.h"
