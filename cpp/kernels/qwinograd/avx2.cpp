#include <immintrin.h>

#include <cstdint>

namespace planck {
namespace {

struct Words {
  static constexpr int64_t kChannels = 16;
  __m256i x;
  static Words load(const uint8_t* from) {
    return {_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))};
  }
  // The first bytes, and zeros.
  static Words load_some(const uint8_t* from, int64_t count) {
    uint8_t bytes[kChannels] = {};
    for (int64_t i = 0; i < count; ++i) bytes[i] = from[i];
    return load(bytes);
  }
};
inline Words operator+(Words a, Words b) { return {_mm256_add_epi16(a.x, b.x)}; }
inline Words operator-(Words a, Words b) { return {_mm256_sub_epi16(a.x, b.x)}; }
template <int kBy>
inline Words shifted(Words a) {
  return {_mm256_slli_epi16(a.x, kBy)};
}
inline void store(int16_t* to, Words a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a.x);
}

struct Sums {
  static constexpr int64_t kColumns = 8;
  __m256i x;
  static Sums load(const int32_t* from) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))};
  }
};
inline Sums operator+(Sums a, Sums b) { return {_mm256_add_epi32(a.x, b.x)}; }
inline Sums operator-(Sums a, Sums b) { return {_mm256_sub_epi32(a.x, b.x)}; }
inline Sums times(Sums a, uint32_t by) {
  return {_mm256_mullo_epi32(a.x, _mm256_set1_epi32(static_cast<int32_t>(by)))};
}
template <int kBy>
inline Sums shifted(Sums a) {
  return {_mm256_slli_epi32(a.x, kBy)};
}
template <int kBy>
inline Sums shifted_down(Sums a) {
  return {_mm256_srai_epi32(a.x, kBy)};
}
inline void store(int32_t* to, Sums a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a.x); }

}  // namespace
}  // namespace planck

// The vectors come first: the family is written in their terms.
#include "kernels/qwinograd/qwinograd_impl.h"

namespace planck {

void qwinograd_u8_4x4_avx2_input(const QwinogradInput& in) { input_of<4, Words>(in); }
void qwinograd_u8_2x2_avx2_input(const QwinogradInput& in) { input_of<2, Words>(in); }
void qwinograd_u8_4x4_avx2_output(const QwinogradOutput& out) { output_of<4, Sums>(out); }
void qwinograd_u8_2x2_avx2_output(const QwinogradOutput& out) { output_of<2, Sums>(out); }

}  // namespace planck
