#include "kernels/simd/vec_avx512.h"
// The vector header comes first: the row functions are written in its terms.
#include "kernels/attention/softmax_row_impl.h"

namespace planck {

float attention_softmax_row_avx512(const ScoreRow& row) { return softmax_row(row); }
void attention_scale_row_avx512(float* x, int64_t count, float factor) {
  scale_row(x, count, factor);
}
int64_t attention_mark_keys_avx512(const MaskRows& mask, uint8_t* live) {
  return mark_keys(mask, live);
}
float attention_largest_avx512(const float* x, int64_t rows, int64_t stride, int64_t columns) {
  return largest(x, rows, stride, columns);
}

}  // namespace planck
