// g++ 12 takes the undefined operands of intrinsics for mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstdint>

namespace planck {
namespace {

struct Words {
  static constexpr int64_t kChannels = 32;
  __m512i x;
  static Words load(const uint8_t* from) {
    return {_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
  }
  // The first bytes, and zeros.
  static Words load_some(const uint8_t* from, int64_t count) {
    const auto mask = static_cast<__mmask32>((uint64_t{1} << count) - 1);
    return {_mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, from))};
  }
};
inline Words operator+(Words a, Words b) { return {_mm512_add_epi16(a.x, b.x)}; }
inline Words operator-(Words a, Words b) { return {_mm512_sub_epi16(a.x, b.x)}; }
template <int kBy>
inline Words shifted(Words a) {
  return {_mm512_slli_epi16(a.x, kBy)};
}
inline void store(int16_t* to, Words a) { _mm512_storeu_si512(to, a.x); }

struct Sums {
  static constexpr int64_t kColumns = 16;
  __m512i x;
  static Sums load(const int32_t* from) { return {_mm512_loadu_si512(from)}; }
};
inline Sums operator+(Sums a, Sums b) { return {_mm512_add_epi32(a.x, b.x)}; }
inline Sums operator-(Sums a, Sums b) { return {_mm512_sub_epi32(a.x, b.x)}; }
inline Sums times(Sums a, uint32_t by) {
  return {_mm512_mullo_epi32(a.x, _mm512_set1_epi32(static_cast<int32_t>(by)))};
}
template <int kBy>
inline Sums shifted(Sums a) {
  return {_mm512_slli_epi32(a.x, kBy)};
}
template <int kBy>
inline Sums shifted_down(Sums a) {
  return {_mm512_srai_epi32(a.x, kBy)};
}
inline void store(int32_t* to, Sums a) { _mm512_storeu_si512(to, a.x); }

}  // namespace
}  // namespace planck

// The vectors come first: the family is written in their terms.
#include "kernels/qwinograd/qwinograd_impl.h"

namespace planck {

void qwinograd_u8_4x4_avx512_input(const QwinogradInput& in) { input_of<4, Words>(in); }
void qwinograd_u8_2x2_avx512_input(const QwinogradInput& in) { input_of<2, Words>(in); }
void qwinograd_u8_4x4_avx512_output(const QwinogradOutput& out) { output_of<4, Sums>(out); }
void qwinograd_u8_2x2_avx512_output(const QwinogradOutput& out) { output_of<2, Sums>(out); }

}  // namespace planck
