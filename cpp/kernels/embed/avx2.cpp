#include "kernels/simd/vec_avx2.h"
// The vector header comes first: the family is written in its terms.
#include "kernels/embed/embed_impl.h"

namespace planck {

void embed_f32_64_avx2(const void* args, int64_t tile, const Worker& worker) {
  run_tile(*static_cast<const EmbedArgs*>(args), tile, worker.count);
}

}  // namespace planck
