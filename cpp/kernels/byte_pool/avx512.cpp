#include <cstdint>

namespace planck {
namespace {
constexpr int64_t kPoolBytes = 64;
}  // namespace
}  // namespace planck

// The vectors are that wide.
#include "kernels/byte_pool/byte_pool_impl.h"

namespace planck {

void byte_pool_max_64_avx512(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const BytePoolArgs*>(args), tile);
}

}  // namespace planck
