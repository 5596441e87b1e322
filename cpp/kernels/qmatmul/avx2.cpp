#include <immintrin.h>

#include "kernels/qmatmul/corrections.h"

namespace planck {
namespace {

constexpr int64_t kColumns = jit::ProofLayout::kColumns;
constexpr int64_t kPairBytes = 2 * kTurnedRows, kLanes = 8;

__m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
void store(void* to, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(to), x); }

// Rows 0 to 7 in the lower halves, 8 to 15 in the upper ones: eight words of each.
void turn_words(__m256i (&x)[8], uint8_t* to) {
  __m256i a[8], b[8];
  for (int64_t i = 0; i < 4; ++i) {
    a[2 * i] = _mm256_unpacklo_epi16(x[2 * i], x[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_epi16(x[2 * i], x[2 * i + 1]);
  }
  for (int64_t i = 0; i < 2; ++i) {  // rows 4i to 4i + 3, words 0-1, 2-3, 4-5, 6-7
    b[4 * i] = _mm256_unpacklo_epi32(a[4 * i], a[4 * i + 2]);
    b[4 * i + 1] = _mm256_unpackhi_epi32(a[4 * i], a[4 * i + 2]);
    b[4 * i + 2] = _mm256_unpacklo_epi32(a[4 * i + 1], a[4 * i + 3]);
    b[4 * i + 3] = _mm256_unpackhi_epi32(a[4 * i + 1], a[4 * i + 3]);
  }
  for (int64_t i = 0; i < 4; ++i) {
    store(to + 2 * i * kPairBytes, _mm256_unpacklo_epi64(b[i], b[4 + i]));
    store(to + (2 * i + 1) * kPairBytes, _mm256_unpackhi_epi64(b[i], b[4 + i]));
  }
}

// The even and the odd words of x, as 32 bits.
struct Wide {
  __m256i even, odd;
};
Wide widen(__m256i x) {
  return {_mm256_madd_epi16(x, _mm256_set1_epi32(1)),
          _mm256_madd_epi16(x, _mm256_set1_epi32(1 << 16))};
}

// The word of every correction of a group, in all lanes.
struct Weights {
  __m256i all[jit::CorrectionGroup::kCount];
};
Weights weights_of(const jit::CorrectionGroup& g) {
  const __m256i four = _mm256_castpd_si256(
      _mm256_broadcast_sd(reinterpret_cast<const double*>(static_cast<const void*>(g.weights))));
  Weights out;
  for (int c = 0; c < jit::CorrectionGroup::kCount; ++c) {
    const __m256i word = _mm256_set1_epi16(static_cast<int16_t>((2 * c + 1) << 8 | 2 * c));
    out.all[c] = _mm256_shuffle_epi8(four, word);
  }
  return out;
}

// Eight columns of every other one of `rows`, from `starts` on.
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
  for (int64_t i = 0; i < 8 && 2 * i < rows; ++i) {
    const __m256i low = x[i % 4], high = x[4 + i % 4];
    const __m256i whole = i < 4 ? _mm256_permute2x128_si256(low, high, 0x20)
                                : _mm256_permute2x128_si256(low, high, 0x31);
    store(starts + 2 * i * kColumns, _mm256_add_epi32(whole, first));
  }
}

template <int kVectors>
void sum_groups(const jit::CorrectionGroup* groups, int64_t count, const uint8_t* turned,
                int32_t* sums) {
  for (int64_t i = 0; i < count; ++i) {
    const jit::CorrectionGroup& g = groups[i];
    const Weights weights = weights_of(g);
    __m256i part[kVectors];
    for (int c = 0; c < jit::CorrectionGroup::kCount; ++c) {
      const uint8_t* a = turned + g.pair[c] * kPairBytes;
      for (int64_t v = 0; v < kVectors; ++v) {
        const __m256i products = _mm256_maddubs_epi16(load(a + 32 * v), weights.all[c]);
        part[v] = c == 0 ? products : _mm256_add_epi16(part[v], products);
      }
    }
    int32_t* sum = sums + g.column * kTurnedRows;
    for (int64_t v = 0; v < kVectors; ++v) {
      const Wide wide = widen(part[v]);
      store(sum + 16 * v, _mm256_add_epi32(load(sum + 16 * v), wide.even));
      store(sum + 16 * v + 8, _mm256_add_epi32(load(sum + 16 * v + 8), wide.odd));
    }
  }
}

}  // namespace

void turn_rows_avx2(const uint8_t* const* row, int64_t bytes, uint8_t* to) {
  constexpr int64_t kBytes = 16;
  for (int64_t at = 0; at < bytes; at += kBytes, to += kBytes / 2 * kPairBytes) {
    __m256i x[8];
    for (int i = 0; i < 8; ++i) {
      x[i] = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(row[8 + i] + at),
                                 reinterpret_cast<const __m128i*>(row[i] + at));
    }
    turn_words(x, to);
  }
}

void sum_corrections_avx2(const jit::CorrectionGroup* groups, int64_t count, int64_t vectors,
                          const uint8_t* turned, int32_t* sums) {
  vectors == 1 ? sum_groups<1>(groups, count, turned, sums)
               : sum_groups<2>(groups, count, turned, sums);
}

void store_starts_avx2(int32_t* sums, const int32_t* offset, int64_t rows, int32_t* starts) {
  for (int64_t v = 0; v < kTurnedRows / kLanes; ++v) {
    const int64_t row = v / 2 * 2 * kLanes + v % 2;  // even ones of a vector, then odd ones
    if (row >= rows) continue;
    for (int64_t j = 0; j < kColumns; j += kLanes) {
      store_columns(sums + j * kTurnedRows + v * kLanes, offset + j, rows - row,
                    starts + row * kColumns + j);
    }
  }
}

}  // namespace planck
