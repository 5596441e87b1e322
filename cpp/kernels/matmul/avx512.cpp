#include <immintrin.h>

#include "kernels/matmul/pairs.h"

namespace planck {

void interleave_f32_avx512(const float* a, const float* b, int64_t count, float* to) {
  constexpr int64_t kLanes = 16;
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  const auto load = [](const float* from, int64_t at, __mmask16 lanes) {
    return from == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes, from + at);
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes, to += 2 * kLanes) {
    const __m512 x = load(a, i, 0xffff), y = load(b, i, 0xffff);
    _mm512_storeu_ps(to, _mm512_permutex2var_ps(x, low, y));
    _mm512_storeu_ps(to + kLanes, _mm512_permutex2var_ps(x, high, y));
  }
  if (i == count) return;
  const auto left = static_cast<uint32_t>(count - i);
  const auto mask = static_cast<__mmask16>((uint32_t{1} << left) - 1);
  const uint32_t both = (uint32_t{1} << (2 * left)) - 1;
  const __m512 x = load(a, i, mask), y = load(b, i, mask);
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(both), _mm512_permutex2var_ps(x, low, y));
  _mm512_mask_storeu_ps(to + kLanes, static_cast<__mmask16>(both >> kLanes),
                        _mm512_permutex2var_ps(x, high, y));
}

}  // namespace planck
