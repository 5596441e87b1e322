#pragma once
// The integer product on the matrix unit (AMX): sums of u8 x s8 over tiles of 16 rows x 16 columns,
// each step 64 deep. What becomes of the sums is the vector kernels' work (QgemmUnit::sums).
#include <cstdint>

#include "kernels/jit/qgemm.h"

namespace planck::jit {

inline constexpr int kTileRows = 16, kTileColumns = 16, kTileDepth = 64;
// Four tiles of sums: 32 rows x 32 columns, or 16 x 64 (two panels) where there are few rows.
inline constexpr int kMatrixRows = 2 * kTileRows, kMatrixColumns = 2 * kTileColumns;
// Lines that the kernel prefetches in each step.
inline constexpr int kMatrixPrefetches = 8;
constexpr int matrix_panels(int rows) { return rows > kTileRows ? 1 : 2; }

// Writes the sums of `rows` rows (the count that was configured) and `panels` panels of 32 columns,
// packed in groups of four, to c as int32; groups count 64 elements; no tail, no epilogue.
QgemmFn matrix_kernel(int rows, int panels);

// The unit of this thread for that many rows; released again before others use the thread.
void configure_matrix(int rows);
void release_matrix();

}  // namespace planck::jit
