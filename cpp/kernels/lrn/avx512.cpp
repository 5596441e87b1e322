#include "kernels/simd/vec_avx512.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/lrn/lrn_impl.h"

namespace planck {

void lrn_f32_avx512(const void* args, int64_t tile, const Worker& worker) {
  run_tile(*static_cast<const LrnArgs*>(args), tile, worker);
}

}  // namespace planck
