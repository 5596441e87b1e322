#include "kernels/simd/vec_avx512.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/grid_sample/grid_sample_impl.h"

namespace planck {

void grid_sample_f32_avx512(const void* args, int64_t tile, const Worker& worker) {
  run_tile(*static_cast<const GridSampleArgs*>(args), tile, worker);
}

}  // namespace planck
