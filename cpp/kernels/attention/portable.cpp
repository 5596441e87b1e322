#include "kernels/simd/vec_portable.h"
// The vector header comes first: the row functions are written in its terms.
#include "kernels/attention/softmax_row_impl.h"

namespace planck {

float attention_softmax_row_portable(const ScoreRow& row) { return softmax_row(row); }
void attention_scale_row_portable(float* x, int64_t count, float factor) {
  scale_row(x, count, factor);
}
int64_t attention_mark_keys_portable(const MaskRows& mask, uint8_t* live) {
  return mark_keys(mask, live);
}
float attention_largest_portable(const float* x, int64_t rows, int64_t stride, int64_t columns) {
  return largest(x, rows, stride, columns);
}

}  // namespace planck
