#include "kernels/simd/vec_avx2.h"
// The vector header comes first: the interpreter is written in its terms.
#include "kernels/eltwise/eltwise_impl.h"

namespace planck {

void eltwise_f32_16_avx2(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const EltwiseArgs*>(args), tile);
}
void eltwise_f32_16_avx2_strip(const EltProgram& program, const EltStrip& strip) {
  run_strip(program, strip);
}

}  // namespace planck
