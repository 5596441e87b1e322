#include "kernels/simd/vec_avx512.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/resample/resample_impl.h"

namespace planck {

void resample_f32_avx512(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const ResampleArgs*>(args), tile);
}

}  // namespace planck
