#include "kernels/simd/vec_portable.h"
// The vector header comes first: the row functions are written in its terms.
#include "kernels/attention/pack_impl.h"
#include "kernels/attention/softmax_row_impl.h"

namespace planck {

void attention_pack_keys_portable(const HeadRows& keys, float scale, int64_t width, float* packed) {
  pack_keys(keys, scale, width, packed);
}
void attention_pack_values_portable(const HeadRows& values, int64_t width, int64_t panel_stride,
                                    float* packed) {
  pack_values(values, width, panel_stride, packed);
}
void attention_softmax_rows_portable(const ScoreRows& rows, float* factors) {
  softmax_rows(rows, factors);
}
void attention_scale_rows_portable(const ResultRows& x, const float* factors) {
  scale_rows(x, factors);
}
int64_t attention_mark_keys_portable(const MaskRows& mask, uint8_t* live) {
  return mark_keys(mask, live);
}
float attention_largest_portable(const float* x, int64_t rows, int64_t stride, int64_t columns) {
  return largest(x, rows, stride, columns);
}

}  // namespace planck
