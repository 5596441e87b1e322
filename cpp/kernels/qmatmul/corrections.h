#pragma once
// What panels leave to be added apart (kernels/jit/qproofs.h): the sums of their corrections, into
// the places where a tile's sums start. Rows of A lie side by side in vectors here, so that a
// correction costs a few instructions for 32 rows; for that A is turned, a piece at a time.
#include <cstdint>

#include "kernels/jit/qproofs.h"

namespace planck {

// Rows of A; each is `lines` runs of `line_bytes`, from one to the next line_step bytes, and a tail
// behind the last. Nothing else is read.
struct CorrectedRows {
  const uint8_t* const* row = nullptr;
  int64_t rows = 0;
  int64_t line_bytes = 0, lines = 1, line_step = 0, tail = 0;
};

struct CorrectedPanels {
  const jit::ProofLayout& layout;
  const int8_t* first = nullptr;
  int64_t count = 0;
  const int32_t* offset = nullptr;  // [columns]
  int64_t columns = 0;              // the last panel may be partial
};

// Bytes of scratch, beside the starts.
int64_t corrections_scratch(int64_t panels);
// starts: [panels][rows][16]; 64-byte aligned, like scratch. Panels without corrections are left
// out. Needs AVX2, as every kernel that reads such panels.
void add_corrections(const CorrectedRows& a, const CorrectedPanels& panels, uint8_t* scratch,
                     int32_t* starts);

// Rows of A side by side: byte [k][place of a row].
inline constexpr int64_t kTurnedRows = 32;
// Where a row lies among them: so that the sums of eight rows come out side by side.
constexpr int64_t row_at_place(int64_t place) {
  const int64_t eight = place / 8 % 2 * 2 + place % 2;
  return eight * 8 + place / 16 * 4 + place % 8 / 2;
}
// 32 rows of `bytes` bytes, a multiple of 16, in the order of their places.
void turn_rows_avx2(const uint8_t* const* row, int64_t bytes, uint8_t* to);
// Adds what groups make of the turned rows to sums [16 columns][32 rows].
void sum_corrections_avx2(const jit::CorrectionGroup* groups, int64_t count, const uint8_t* turned,
                          int32_t* sums);
// Such sums and the offsets of their columns, as starts [rows][16]; the sums are zero afterwards.
void store_starts_avx2(int32_t* sums, const int32_t* offset, int64_t rows, int32_t* starts);

}  // namespace planck
