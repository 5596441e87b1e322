#include "kernels/simd/vec_portable.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/qdepthwise/qdepthwise_impl.h"

namespace planck {

void qdepthwise_u8s8s32_portable(const void* args, int64_t tile, const Worker& worker) {
  run_tile(*static_cast<const QDepthwiseArgs*>(args), tile, worker);
}

}  // namespace planck
