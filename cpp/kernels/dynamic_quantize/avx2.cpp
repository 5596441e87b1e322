#include "kernels/simd/vec_avx2.h"
// The vector header comes first: the loops are written in its terms.
#include "kernels/dynamic_quantize/dynamic_quantize_impl.h"

namespace planck {

void dynamic_quantize_f32_16_avx2_range(const void* args, int64_t tile, const Worker&) {
  range_tile(*static_cast<const DynamicQuantizeArgs*>(args), tile);
}
void dynamic_quantize_f32_16_avx2(const void* args, int64_t tile, const Worker&) {
  quantize_tile(*static_cast<const DynamicQuantizeArgs*>(args), tile);
}

}  // namespace planck
