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

// Rows of A side by side: word [pair][row] is the row's bytes 2 * pair and 2 * pair + 1.
inline constexpr int64_t kTurnedRows = 32;
// 16 rows of `bytes` bytes, a multiple of 16; words from `to` on, kTurnedRows of them a pair.
void turn_rows_avx2(const uint8_t* const* row, int64_t bytes, uint8_t* to);
// What groups make of the turned rows, for one or two vectors of 16 rows: sums [16 columns][4][8],
// of even and odd rows of each vector.
void sum_corrections_avx2(const jit::CorrectionGroup* groups, int64_t count, int64_t vectors,
                          const uint8_t* turned, int32_t* sums);
// Such sums and the offsets of their columns, as starts [rows][16]; the sums are zero afterwards.
void store_starts_avx2(int32_t* sums, const int32_t* offset, int64_t rows, int32_t* starts);

}  // namespace planck
