#include "kernels/qchannelwise/qchannelwise_impl.h"

namespace planck {

void qchannelwise_u8_avx512(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const QChannelwiseArgs*>(args), tile);
}

}  // namespace planck
