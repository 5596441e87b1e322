#include "kernels/qmatmul/corrections.h"

#include <algorithm>
#include <cstring>

namespace planck {
namespace {

using jit::ProofLayout;

constexpr int64_t kColumns = ProofLayout::kColumns, kBlock = ProofLayout::kBlock;
constexpr int64_t kVector = 16;  // bytes of a row that are turned together
// A last piece is turned in whole vectors.
constexpr int64_t kTurnedBytes = (kBlock + kVector) * kTurnedRows;

// Up to 32 rows of A, as they are turned.
struct Chunk {
  const uint8_t* row[kTurnedRows];
  int64_t first, rows;
};

Chunk chunk_of(const CorrectedRows& a, int64_t first) {
  Chunk chunk{{}, first, std::min(kTurnedRows, a.rows - first)};
  for (int64_t i = 0; i < kTurnedRows; ++i) {  // what is not there is any row
    chunk.row[i] = a.row[first + std::min(row_at_place(i), chunk.rows - 1)];
  }
  return chunk;
}

// Bytes [from, from + bytes) of every row. The last vector overlaps the one before.
void turn(const Chunk& chunk, int64_t from, int64_t bytes, uint8_t* to) {
  const int64_t whole = bytes / kVector * kVector, rest = bytes - whole;
  const uint8_t* row[kTurnedRows];
  for (int64_t i = 0; i < kTurnedRows; ++i) row[i] = chunk.row[i] + from;
  turn_rows_avx2(row, whole, to);
  if (rest == 0) return;
  if (whole > 0) {
    for (const uint8_t*& at : row) at += bytes - kVector;
    turn_rows_avx2(row, kVector, to + (bytes - kVector) * kTurnedRows);
    return;
  }
  alignas(32) uint8_t copy[kTurnedRows][kVector] = {};
  for (int64_t i = 0; i < kTurnedRows; ++i) {
    std::memcpy(copy[i], row[i], static_cast<size_t>(rest));
    row[i] = copy[i];
  }
  turn_rows_avx2(row, kVector, to);
}

// Elements [k, k + depth) of every row: from one line or several, and from the tail.
void turn_block(const CorrectedRows& a, const Chunk& chunk, int64_t k, int64_t depth, uint8_t* to) {
  const int64_t body = a.line_bytes * a.lines, end = std::min(k + depth, body + a.tail);
  while (k < end) {
    const int64_t line = k < body ? k / a.line_bytes : a.lines - 1;
    const int64_t line_end = line + 1 < a.lines ? (line + 1) * a.line_bytes : body + a.tail;
    const int64_t bytes = std::min(end, line_end) - k;
    turn(chunk, k + line * a.line_step, bytes, to);
    to += bytes * kTurnedRows;
    k += bytes;
  }
}

// One block of k into sums [panels][16][32]; done: groups before it, of every panel.
void add_block(const CorrectedPanels& p, int64_t block, const uint8_t* turned, int64_t* done,
               int32_t* sums) {
  for (int64_t i = 0; i < p.count; ++i) {
    const int8_t* panel = p.first + i * p.layout.bytes;
    const int64_t count = p.layout.count(panel, block);
    sum_corrections_avx2(p.layout.groups(panel) + done[i], count, turned,
                         sums + i * kColumns * kTurnedRows);
    done[i] += count;
  }
}

// What lies in scratch, one behind the other.
int64_t sums_bytes(int64_t panels) {
  return panels * kColumns * kTurnedRows * static_cast<int64_t>(sizeof(int32_t));
}
int64_t done_bytes(int64_t panels) { return panels * static_cast<int64_t>(sizeof(int64_t)); }

void add_chunk(const CorrectedRows& a, const CorrectedPanels& p, const Chunk& chunk,
               uint8_t* scratch, int32_t* starts) {
  auto* sums = reinterpret_cast<int32_t*>(scratch + kTurnedBytes);
  auto* done = reinterpret_cast<int64_t*>(scratch + kTurnedBytes + sums_bytes(p.count));
  std::memset(done, 0, static_cast<size_t>(done_bytes(p.count)));
  for (int64_t block = 0; block < p.layout.blocks; ++block) {
    turn_block(a, chunk, block * kBlock, kBlock, scratch);
    add_block(p, block, scratch, done, sums);
  }
  for (int64_t i = 0; i < p.count; ++i) {
    if (!p.layout.corrected(p.first + i * p.layout.bytes)) continue;
    int32_t offset[kColumns] = {};
    const int64_t columns = std::min(kColumns, p.columns - i * kColumns);
    std::copy_n(p.offset + i * kColumns, columns, offset);
    store_starts_avx2(sums + i * kColumns * kTurnedRows, offset, chunk.rows,
                      starts + (i * a.rows + chunk.first) * kColumns);
  }
}

}  // namespace

int64_t corrections_scratch(int64_t panels) {
  return kTurnedBytes + sums_bytes(panels) + done_bytes(panels);
}

void add_corrections(const CorrectedRows& a, const CorrectedPanels& panels, uint8_t* scratch,
                     int32_t* starts) {
  const auto corrected = [&](int64_t i) {
    return panels.layout.corrected(panels.first + i * panels.layout.bytes);
  };
  bool any = false;
  for (int64_t i = 0; i < panels.count; ++i) any = any || corrected(i);
  if (!any) return;
  std::memset(scratch + kTurnedBytes, 0, static_cast<size_t>(sums_bytes(panels.count)));
  for (int64_t first = 0; first < a.rows; first += kTurnedRows) {
    add_chunk(a, panels, chunk_of(a, first), scratch, starts);
  }
}

}  // namespace planck
