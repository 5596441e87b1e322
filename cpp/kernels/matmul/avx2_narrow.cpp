#include "kernels/matmul/narrow.h"
#include "kernels/simd/vec_avx2.h"

namespace planck {
namespace {

using jit::GemmCall;

constexpr int kRows = 8, kTogether = 2;
using Lanes = __m256;

PLANCK_INLINE Lanes zero() { return _mm256_setzero_ps(); }
PLANCK_INLINE Lanes all(float x) { return _mm256_set1_ps(x); }
PLANCK_INLINE Lanes add(Lanes x, Lanes y) { return _mm256_add_ps(x, y); }
PLANCK_INLINE Lanes fma(Lanes x, Lanes y, Lanes z) { return _mm256_fmadd_ps(x, y, z); }
// NaN and -0 stay what they are.
PLANCK_INLINE Lanes positive(Lanes x) { return _mm256_max_ps(zero(), x); }
template <int kCount>
PLANCK_INLINE void apply_sigmoid(Lanes (&x)[kCount]) {
  for (int i = 0; i < kCount; i += 2) {
    const bool both = i + 1 < kCount;
    const F16 y = sigmoid(F16{x[i], x[both ? i + 1 : i]});
    x[i] = y.a;
    if (both) x[i + 1] = y.b;
  }
}
PLANCK_INLINE Lanes load_lanes(const float* p) { return _mm256_load_ps(p); }
PLANCK_INLINE void store_lanes(float* p, Lanes x) { _mm256_storeu_ps(p, x); }

PLANCK_INLINE void store_pairs(float* p, Lanes x, Lanes y) {
  const Lanes low = _mm256_unpacklo_ps(x, y), high = _mm256_unpackhi_ps(x, y);
  _mm256_storeu_ps(p, _mm256_permute2f128_ps(low, high, 0x20));
  _mm256_storeu_ps(p + kRows, _mm256_permute2f128_ps(low, high, 0x31));
}

// -1 for the first `count` of four.
PLANCK_INLINE __m128i first_of_four(int count) {
  return _mm_cmpgt_epi32(_mm_set1_epi32(count), _mm_setr_epi32(0, 1, 2, 3));
}

template <int kCount>
PLANCK_INLINE __m128 load_part(const float* p) {
  if constexpr (kCount == 4) return _mm_loadu_ps(p);
  return _mm_maskload_ps(p, first_of_four(kCount));
}

template <int kCount>
PLANCK_INLINE Lanes load_parts(const auto& at) {
  const Lanes x = _mm256_castps128_ps256(load_part<kCount>(at(0)));
  return _mm256_insertf128_ps(x, load_part<kCount>(at(1)), 1);
}

PLANCK_INLINE void transpose(Lanes (&x)[4]) {
  const Lanes low01 = _mm256_unpacklo_ps(x[0], x[1]), high01 = _mm256_unpackhi_ps(x[0], x[1]);
  const Lanes low23 = _mm256_unpacklo_ps(x[2], x[3]), high23 = _mm256_unpackhi_ps(x[2], x[3]);
  x[0] = _mm256_shuffle_ps(low01, low23, 0x44), x[1] = _mm256_shuffle_ps(low01, low23, 0xEE);
  x[2] = _mm256_shuffle_ps(high01, high23, 0x44), x[3] = _mm256_shuffle_ps(high01, high23, 0xEE);
}

PLANCK_INLINE void store_part(float* p, Lanes x, int part, int count) {
  const __m128 four = part == 0 ? _mm256_castps256_ps128(x) : _mm256_extractf128_ps(x, 1);
  if (count == 4) {
    _mm_storeu_ps(p, four);
  } else {
    _mm_maskstore_ps(p, first_of_four(count), four);
  }
}

}  // namespace
}  // namespace planck

#include "kernels/matmul/narrow_impl.h"

namespace planck {

const jit::GemmFn* narrow_kernels_avx2() { return kKernels; }

}  // namespace planck
