#include <algorithm>
#include <cmath>

#include "kernels/jit/gemm.h"

namespace planck::jit {
namespace {

bool exists(const GemmCall& call, int column) {
  return call.mask == nullptr || call.mask[column] != 0;
}

// The sums of one row: one fused multiply-add for each k, in order, as the generated kernels do.
void row_sums(const GemmCall& call, const float* a, float* sums) {
  const float* b = call.b;
  for (int64_t line = 0; line < call.lines; ++line, a += call.a_line) {
    for (int64_t k = 0; k < call.k; ++k, b += kPortableColumns) {
      for (int j = 0; j < kPortableColumns; ++j) sums[j] = std::fmaf(a[k], b[j], sums[j]);
    }
  }
}

float finish(const GemmCall& call, int64_t row, int column, float sum) {
  if (call.bias != nullptr) sum += call.bias[column];
  if (call.residual != nullptr) sum += call.residual[row * call.residual_stride + column];
  return (call.flags & kRelu) != 0 && sum < 0 ? 0 : sum;
}

void one_tile(const GemmCall* call) {
  for (int64_t i = 0; i < call->rows; ++i) {
    float sums[kPortableColumns] = {};
    float* c = call->c + i * call->c_stride;
    for (int j = 0; j < kPortableColumns; ++j) {
      if ((call->flags & kLoadC) != 0 && exists(*call, j)) sums[j] = c[j];
    }
    row_sums(*call, call->a + i * call->a_stride, sums);
    for (int j = 0; j < kPortableColumns; ++j) {
      if (exists(*call, j)) c[j] = finish(*call, i, j, sums[j]);
    }
  }
}

}  // namespace

void gemm_portable(GemmCall* call) {
  one_tile(call);
  for (; call->tiles > 1; --call->tiles) {
    call->a += call->rows * call->a_stride;
    call->c += call->rows * call->c_stride;
    call->row += call->rows;
    if (call->residual != nullptr) call->residual += call->rows * call->residual_stride;
    one_tile(call);
  }
}

}  // namespace planck::jit
