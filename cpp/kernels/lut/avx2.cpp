// Sixteen parts of the table, each looked up by a shuffle that gives 0 for bytes of other parts.
#include <immintrin.h>

#include "kernels/lut/lut_impl.h"

namespace planck {
namespace {

constexpr int kParts = 16;

struct Parts {
  __m256i part[kParts];  // sixteen bytes of the table, twice
};

Parts load_parts(const uint8_t* table) {
  Parts t;
  for (int i = 0; i < kParts; ++i) {
    const auto* at = reinterpret_cast<const __m128i_u*>(table + int64_t{16} * i);
    t.part[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128(at));
  }
  return t;
}

// Bytes of part i become 0x70 to 0x7F, whose low half is the place in the part; all others reach
// 0x80, which a shuffle takes for zero.
inline __m256i look_up(const Parts& t, __m256i x) {
  __m256i y = _mm256_setzero_si256();
#pragma GCC unroll 16
  for (int i = 0; i < kParts; ++i) {
    const __m256i place = _mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(16 * i)));
    const __m256i index = _mm256_adds_epu8(place, _mm256_set1_epi8(0x70));
    y = _mm256_or_si256(y, _mm256_shuffle_epi8(t.part[i], index));
  }
  return y;
}

}  // namespace

void lut_u8_32_avx2(const void* args, int64_t tile, const Worker&) {
  const auto& a = *static_cast<const LutArgs*>(args);
  const Parts parts = load_parts(a.table);
  run_tile(a, tile, [&](const uint8_t* x, uint8_t* out, int64_t count) {
    const int64_t whole = count / 32 * 32;
    for (int64_t i = 0; i < whole; i += 32) {
      const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(x + i));
      _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(out + i), look_up(parts, bytes));
    }
    lut_bytes(a.table, x + whole, out + whole, count - whole);
  });
}

}  // namespace planck
