#include "kernels/lut/lut_impl.h"

namespace planck {

void lut_u8_1_portable(const void* args, int64_t tile, const Worker&) {
  const auto& a = *static_cast<const LutArgs*>(args);
  run_tile(a, tile, [&](const uint8_t* x, uint8_t* out, int64_t count) {
    lut_bytes(a.table, x, out, count);
  });
}

}  // namespace planck
