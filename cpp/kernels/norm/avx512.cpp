#include "kernels/simd/vec_avx512.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/norm/norm_impl.h"

namespace planck {

void layernorm_f32_64_avx512(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const NormArgs*>(args), tile);
}

}  // namespace planck
