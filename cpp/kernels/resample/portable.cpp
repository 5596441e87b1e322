#include "kernels/simd/vec_portable.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/resample/resample_impl.h"

namespace planck {

void resample_f32_portable(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const ResampleArgs*>(args), tile);
}

}  // namespace planck
