// With VBMI a permutation over two registers is half of the table; without, sixteen shuffles as in
// avx2.cpp.
//
// g++ 12 takes the undefined lanes of its own intrinsics for uninitialised variables (its bug
// 105593), at places that only a pragma for the whole file reaches.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include "kernels/lut/lut_impl.h"

namespace planck {
namespace {

constexpr int kParts = 16;

struct Parts {
  __m512i part[kParts];  // sixteen bytes of the table, four times
};

Parts load_parts(const uint8_t* table) {
  Parts t;
  for (int i = 0; i < kParts; ++i) {
    const auto* at = reinterpret_cast<const __m128i_u*>(table + int64_t{16} * i);
    t.part[i] = _mm512_broadcast_i32x4(_mm_loadu_si128(at));
  }
  return t;
}

inline __m512i look_up(const Parts& t, __m512i x) {
  __m512i y = _mm512_setzero_si512();
#pragma GCC unroll 16
  for (int i = 0; i < kParts; ++i) {
    const __m512i place = _mm512_xor_si512(x, _mm512_set1_epi8(static_cast<char>(16 * i)));
    const __m512i index = _mm512_adds_epu8(place, _mm512_set1_epi8(0x70));
    y = _mm512_or_si512(y, _mm512_shuffle_epi8(t.part[i], index));
  }
  return y;
}

__mmask64 first_bytes(int64_t count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

void by_shuffles(const Parts& parts, const uint8_t* x, uint8_t* out, int64_t count) {
  for (int64_t i = 0; i < count; i += 64) {
    const __mmask64 mask = first_bytes(count - i);
    const __m512i bytes = _mm512_maskz_loadu_epi8(mask, x + i);
    _mm512_mask_storeu_epi8(out + i, mask, look_up(parts, bytes));
  }
}

__attribute__((target("avx512f,avx512bw,avx512vbmi"))) void by_permutations(const uint8_t* table,
                                                                            const uint8_t* x,
                                                                            uint8_t* out,
                                                                            int64_t count) {
  const __m512i a = _mm512_loadu_si512(table), b = _mm512_loadu_si512(table + 64);
  const __m512i c = _mm512_loadu_si512(table + 128), d = _mm512_loadu_si512(table + 192);
  for (int64_t i = 0; i < count; i += 64) {
    const __mmask64 mask = first_bytes(count - i);
    const __m512i bytes = _mm512_maskz_loadu_epi8(mask, x + i);
    const __m512i low = _mm512_permutex2var_epi8(a, bytes, b);
    const __m512i high = _mm512_permutex2var_epi8(c, bytes, d);
    const __m512i y = _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high);
    _mm512_mask_storeu_epi8(out + i, mask, y);
  }
}

}  // namespace

void lut_u8_64_avx512(const void* args, int64_t tile, const Worker&) {
  const auto& a = *static_cast<const LutArgs*>(args);
  if (a.vbmi) {
    run_tile(a, tile, [&](const uint8_t* x, uint8_t* out, int64_t count) {
      by_permutations(a.table, x, out, count);
    });
    return;
  }
  const Parts parts = load_parts(a.table);
  run_tile(a, tile, [&](const uint8_t* x, uint8_t* out, int64_t count) {
    by_shuffles(parts, x, out, count);
  });
}

}  // namespace planck
