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

// Each pair is made once and written for all places in a row that it stands for.
void interleave_part_f32_avx512(const WindowPart& part, PartPlaces a, PartPlaces b, int64_t count,
                                int64_t pitch, float* to) {
  constexpr int64_t kLanes = 16;
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  const auto load = [](const PartPlaces& from, int64_t at, __mmask16 lanes) {
    return from.first == nullptr ? _mm512_setzero_ps()
                                 : _mm512_maskz_loadu_ps(lanes, from.first + at);
  };
  const auto pass = [&](PartPlaces& places, int64_t n) {
    places.left -= n;
    if (places.left > 0 || places.first == nullptr) return;
    places.left = part.repeat;
    places.first += part.x_step;
  };
  while (count > 0) {
    int64_t same = a.left < b.left ? a.left : b.left;
    same = same < count ? same : count;
    for (int64_t i = 0; i < part.channels; i += kLanes) {
      const int64_t left = part.channels - i < kLanes ? part.channels - i : kLanes;
      const auto mask = static_cast<__mmask16>((uint32_t{1} << left) - 1);
      const auto both = static_cast<uint32_t>((uint64_t{1} << (2 * left)) - 1);
      const __m512 x = load(a, i, mask), y = load(b, i, mask);
      const __m512 first = _mm512_permutex2var_ps(x, low, y);
      float* at = to + 2 * i;
      for (int64_t n = 0; n < same; ++n) {
        _mm512_mask_storeu_ps(at + n * pitch, static_cast<__mmask16>(both), first);
      }
      if (2 * left <= kLanes) break;
      const __m512 second = _mm512_permutex2var_ps(x, high, y);
      at += kLanes;
      for (int64_t n = 0; n < same; ++n) {
        _mm512_mask_storeu_ps(at + n * pitch, static_cast<__mmask16>(both >> kLanes), second);
      }
    }
    pass(a, same), pass(b, same);
    to += same * pitch, count -= same;
  }
}

// The pairs of eight places of each plane first, as 64 bits; then these in turn.
void interleave_planes_f32_avx512(const float* a, const float* b, int64_t step, int64_t count,
                                  float* to) {
  constexpr int64_t kPlaces = 8;
  const __m512i pairs = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  // Of the first two planes, and where the third one (8 and up) comes between them.
  const __m512i two[] = {_mm512_setr_epi64(0, 8, 0, 1, 9, 0, 2, 10),
                         _mm512_setr_epi64(0, 3, 11, 0, 4, 12, 0, 5),
                         _mm512_setr_epi64(13, 0, 6, 14, 0, 7, 15, 0)};
  const __m512i third[] = {_mm512_setr_epi64(0, 1, 8, 3, 4, 9, 6, 7),
                           _mm512_setr_epi64(10, 1, 2, 11, 4, 5, 12, 7),
                           _mm512_setr_epi64(0, 13, 2, 3, 14, 5, 6, 15)};
  for (int64_t i = 0; i < count; i += kPlaces, to += 6 * kPlaces) {
    const auto left = static_cast<uint32_t>(count - i < kPlaces ? count - i : kPlaces);
    const auto mask = static_cast<__mmask8>((uint32_t{1} << left) - 1);
    __m512d planes[3];
    for (int c = 0; c < 3; ++c) {
      const __m256 x = _mm256_maskz_loadu_ps(mask, a + c * step + i);
      const __m256 y = _mm256_maskz_loadu_ps(mask, b + c * step + i);
      planes[c] = _mm512_castps_pd(
          _mm512_permutex2var_ps(_mm512_castps256_ps512(x), pairs, _mm512_castps256_ps512(y)));
    }
    const uint32_t all = (uint32_t{1} << (3 * left)) - 1;
    for (int v = 0; v < 3; ++v) {
      const __m512d ends = _mm512_permutex2var_pd(planes[0], two[v], planes[1]);
      _mm512_mask_storeu_pd(to + int64_t{16} * v, static_cast<__mmask8>(all >> (8 * v)),
                            _mm512_permutex2var_pd(ends, third[v], planes[2]));
    }
  }
}

}  // namespace planck
