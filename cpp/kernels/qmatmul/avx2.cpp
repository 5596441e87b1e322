#include <immintrin.h>

#include "kernels/qmatmul/corrections.h"

namespace planck {
namespace {

constexpr int64_t kColumns = jit::ProofLayout::kColumns, kLanes = 8;

__m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
void store(void* to, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }

// 16 rows of 16 bytes in both halves: four times the first eight rows and the last eight are
// interleaved, and rows are columns.
void turn_bytes(__m256i (&x)[16], uint8_t* to) {
  for (int round = 0; round < 4; ++round) {
    __m256i y[16];
    for (int64_t i = 0; i < 8; ++i) {
      y[2 * i] = _mm256_unpacklo_epi8(x[i], x[8 + i]);
      y[2 * i + 1] = _mm256_unpackhi_epi8(x[i], x[8 + i]);
    }
    for (int64_t i = 0; i < 16; ++i) x[i] = y[i];
  }
  for (int64_t i = 0; i < 16; ++i) store(to + i * kTurnedRows, x[i]);
}

// Two corrections of 32 rows, in 16 bits: rows whose number has an even quarter, and the others.
struct Halves {
  __m256i low, high;
};
Halves products(const uint8_t* first, const uint8_t* second, __m256i weights) {
  const __m256i a = load(first), b = load(second);
  return {_mm256_maddubs_epi16(_mm256_unpacklo_epi8(a, b), weights),
          _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a, b), weights)};
}

// The words of x at even and odd places, as 32 bits, to sums [2][8].
void add_wide(int32_t* sums, __m256i x) {
  const __m256i even = _mm256_madd_epi16(x, _mm256_set1_epi32(1));
  const __m256i odd = _mm256_madd_epi16(x, _mm256_set1_epi32(1 << 16));
  store(sums, _mm256_add_epi32(load(sums), even));
  store(sums + kLanes, _mm256_add_epi32(load(sums + kLanes), odd));
}

// Eight columns of up to eight rows, from `starts` on.
void store_columns(int32_t* sums, const int32_t* offset, int64_t rows, int32_t* starts) {
  __m256i x[8], a[8];
  for (int64_t j = 0; j < 8; ++j) {
    x[j] = load(sums + j * kTurnedRows);
    store(sums + j * kTurnedRows, _mm256_setzero_si256());
  }
  for (int64_t j = 0; j < 4; ++j) {
    a[2 * j] = _mm256_unpacklo_epi32(x[2 * j], x[2 * j + 1]);
    a[2 * j + 1] = _mm256_unpackhi_epi32(x[2 * j], x[2 * j + 1]);
  }
  for (int64_t j = 0; j < 2; ++j) {  // columns 4j to 4j + 3 of rows 0, 1, 2, 3, and four further on
    x[4 * j] = _mm256_unpacklo_epi64(a[4 * j], a[4 * j + 2]);
    x[4 * j + 1] = _mm256_unpackhi_epi64(a[4 * j], a[4 * j + 2]);
    x[4 * j + 2] = _mm256_unpacklo_epi64(a[4 * j + 1], a[4 * j + 3]);
    x[4 * j + 3] = _mm256_unpackhi_epi64(a[4 * j + 1], a[4 * j + 3]);
  }
  const __m256i first = load(offset);
  for (int64_t i = 0; i < 8 && i < rows; ++i) {
    const __m256i low = x[i % 4], high = x[4 + i % 4];
    const __m256i whole = i < 4 ? _mm256_permute2x128_si256(low, high, 0x20)
                                : _mm256_permute2x128_si256(low, high, 0x31);
    store(starts + i * kColumns, _mm256_add_epi32(whole, first));
  }
}

}  // namespace

void turn_rows_avx2(const uint8_t* const* row, int64_t bytes, uint8_t* to) {
  constexpr int64_t kBytes = 16;
  for (int64_t at = 0; at < bytes; at += kBytes, to += kBytes * kTurnedRows) {
    __m256i x[16];
    for (int i = 0; i < 16; ++i) {
      x[i] = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(row[16 + i] + at),
                                 reinterpret_cast<const __m128i*>(row[i] + at));
    }
    turn_bytes(x, to);
  }
}

void sum_corrections_avx2(const jit::CorrectionGroup* groups, int64_t count, const uint8_t* turned,
                          int32_t* sums) {
  const __m256i first_two = _mm256_set1_epi16(0x0100), last_two = _mm256_set1_epi16(0x0302);
  for (int64_t i = 0; i < count; ++i) {
    const jit::CorrectionGroup& g = groups[i];
    const auto a = [&](int c) { return turned + g.place[c] * kTurnedRows; };
    const __m256i weights = _mm256_castps_si256(
        _mm256_broadcast_ss(reinterpret_cast<const float*>(static_cast<const void*>(g.weight))));
    const Halves x = products(a(0), a(1), _mm256_shuffle_epi8(weights, first_two));
    const Halves y = products(a(2), a(3), _mm256_shuffle_epi8(weights, last_two));
    int32_t* sum = sums + g.column * kTurnedRows;
    add_wide(sum, _mm256_add_epi16(x.low, y.low));
    add_wide(sum + 2 * kLanes, _mm256_add_epi16(x.high, y.high));
  }
}

void store_starts_avx2(int32_t* sums, const int32_t* offset, int64_t rows, int32_t* starts) {
  for (int64_t row = 0; row < rows; row += kLanes) {
    for (int64_t j = 0; j < kColumns; j += kLanes) {
      store_columns(sums + j * kTurnedRows + row, offset + j, rows - row,
                    starts + row * kColumns + j);
    }
  }
}

}  // namespace planck
