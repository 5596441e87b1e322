#pragma once
#include "kernels/norm/column_norm.h"
#include "kernels/norm/norm.h"
#include "kernels/norm/row_norm.h"

namespace planck {
namespace {

void run_row(const NormArgs& a, int64_t row) {
  const float* x = a.x + row * a.x_stride;
  const float* residual = a.residual ? a.residual + row * a.residual_stride : nullptr;
  float* out = a.out + row * a.out_stride;
  float* s = a.sum ? a.sum + row * a.sum_stride : out;
  if (a.bias && residual) {
    normalize_row(s, out, a.n, add_rows<true>(x, a.bias, residual, s, a.n), a.gain, a.offset,
                  a.eps);
  } else if (a.bias || residual) {
    const float* y = a.bias ? a.bias : residual;
    normalize_row(s, out, a.n, add_rows<false>(x, y, nullptr, s, a.n), a.gain, a.offset, a.eps);
  } else {
    if (a.sum && s != x) __builtin_memcpy(s, x, static_cast<size_t>(a.n) * sizeof(float));
    normalize_row(x, out, a.n, sum_row(x, a.n), a.gain, a.offset, a.eps);
  }
}

void prefetch(const NormArgs& a, int64_t row) {
  prefetch_row(a.x + row * a.x_stride, a.n);
  if (a.residual) prefetch_row(a.residual + row * a.residual_stride, a.n);
}

// Half of the rows, or of each row, was written by another core a moment ago: they are asked for
// two rows ahead.
void run_tile(const NormArgs& a, int64_t tile) {
  if (a.inner > 0) return run_column_tile(a, tile);
  constexpr int64_t kAhead = 2;
  const int64_t block = rows_of_tile(a);
  const int64_t first = tile * block;
  const int64_t last = first + block < a.rows ? first + block : a.rows;
  for (int64_t row = first; row < last && row < first + kAhead; ++row) prefetch(a, row);
  for (int64_t row = first; row < last; ++row) {
    if (row + kAhead < last) prefetch(a, row + kAhead);
    run_row(a, row);
  }
  if (a.strip == nullptr) return;
  const EltOperand out{a.out + first * a.out_stride, a.out_stride, 1};
  void* bytes = static_cast<char*>(a.bytes) + first * a.bytes_stride;
  a.strip(a.program, {&out, bytes, a.bytes_stride, last - first, a.n, a.bytes_type});
}

}  // namespace
}  // namespace planck
