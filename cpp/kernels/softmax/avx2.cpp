#include "kernels/simd/vec_avx2.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/softmax/softmax_impl.h"

namespace planck {

void softmax_f32_64_avx2(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const SoftmaxArgs*>(args), tile);
}

}  // namespace planck
