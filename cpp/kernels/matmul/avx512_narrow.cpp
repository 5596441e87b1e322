#include "kernels/matmul/narrow.h"
#include "kernels/simd/vec_avx512.h"

namespace planck {
namespace {

using jit::GemmCall;

// Values of B come with the sums for nothing.
constexpr int kRows = 16, kTogether = 1;
using Lanes = __m512;

PLANCK_INLINE Lanes zero() { return _mm512_setzero_ps(); }
PLANCK_INLINE Lanes all(float x) { return _mm512_set1_ps(x); }
PLANCK_INLINE Lanes add(Lanes x, Lanes y) { return _mm512_add_ps(x, y); }
PLANCK_INLINE Lanes fma(Lanes x, Lanes y, Lanes z) { return _mm512_fmadd_ps(x, y, z); }
// NaN and -0 stay what they are.
PLANCK_INLINE Lanes positive(Lanes x) { return _mm512_max_ps(zero(), x); }
template <int kCount>
PLANCK_INLINE void apply_sigmoid(Lanes (&x)[kCount]) {
  for (Lanes& lanes : x) lanes = sigmoid(F16{lanes}).a;
}
PLANCK_INLINE Lanes load_lanes(const float* p) { return _mm512_load_ps(p); }
PLANCK_INLINE void store_lanes(float* p, Lanes x) { _mm512_storeu_ps(p, x); }

PLANCK_INLINE void store_pairs(float* p, Lanes x, Lanes y) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  _mm512_storeu_ps(p, _mm512_permutex2var_ps(x, low, y));
  _mm512_storeu_ps(p + kRows, _mm512_permutex2var_ps(x, high, y));
}

template <int kCount>
PLANCK_INLINE __m128 load_part(const float* p) {
  if constexpr (kCount == 4) return _mm_loadu_ps(p);
  return _mm_maskz_loadu_ps((1 << kCount) - 1, p);
}

template <int kCount>
PLANCK_INLINE Lanes load_parts(const auto& at) {
  Lanes x = _mm512_castps128_ps512(load_part<kCount>(at(0)));
  x = _mm512_insertf32x4(x, load_part<kCount>(at(1)), 1);
  x = _mm512_insertf32x4(x, load_part<kCount>(at(2)), 2);
  return _mm512_insertf32x4(x, load_part<kCount>(at(3)), 3);
}

PLANCK_INLINE Lanes pairs_of(Lanes x, Lanes y, bool high) {
  const __m512d a = _mm512_castps_pd(x), b = _mm512_castps_pd(y);
  return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(a, b) : _mm512_unpacklo_pd(a, b));
}

PLANCK_INLINE void transpose(Lanes (&x)[4]) {
  const Lanes low01 = _mm512_unpacklo_ps(x[0], x[1]), high01 = _mm512_unpackhi_ps(x[0], x[1]);
  const Lanes low23 = _mm512_unpacklo_ps(x[2], x[3]), high23 = _mm512_unpackhi_ps(x[2], x[3]);
  x[0] = pairs_of(low01, low23, false), x[1] = pairs_of(low01, low23, true);
  x[2] = pairs_of(high01, high23, false), x[3] = pairs_of(high01, high23, true);
}

PLANCK_INLINE __m128 part_of(Lanes x, int part) {
  switch (part) {
    case 0:
      return _mm512_castps512_ps128(x);
    case 1:
      return _mm512_extractf32x4_ps(x, 1);
    case 2:
      return _mm512_extractf32x4_ps(x, 2);
    default:
      return _mm512_extractf32x4_ps(x, 3);
  }
}

PLANCK_INLINE void store_part(float* p, Lanes x, int part, int count) {
  _mm_mask_storeu_ps(p, static_cast<__mmask8>((1 << count) - 1), part_of(x, part));
}

}  // namespace
}  // namespace planck

#include "kernels/matmul/narrow_impl.h"

namespace planck {

const jit::GemmFn* narrow_kernels_avx512() { return kKernels; }

}  // namespace planck
