#include "kernels/simd/vec_avx512.h"
// The vector header comes first: the row functions are written in its terms.
#include "kernels/attention/softmax_row_impl.h"

namespace planck {

float attention_softmax_row_avx512(const ScoreRow& row) { return softmax_row(row); }
void attention_scale_row_avx512(float* x, int64_t count, float factor) {
  scale_row(x, count, factor);
}

}  // namespace planck
