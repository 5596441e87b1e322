#include "kernels/simd/vec_portable.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/roi_align/roi_align_impl.h"

namespace planck {

void roi_align_f32_portable(const void* args, int64_t tile, const Worker& worker) {
  run_tile(*static_cast<const RoiAlignArgs*>(args), tile, worker);
}

}  // namespace planck
