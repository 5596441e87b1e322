#include <immintrin.h>

#include <cstdint>

namespace planck {
namespace {

// Eight columns of x (steps of x_step) become eight rows of out.
inline void transpose_block(const uint32_t* x, int64_t x_step, uint32_t* out, int64_t out_step) {
  __m256 v[8], pair[8], quad[8];
  for (int i = 0; i < 8; ++i) {
    v[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(x + i * x_step));
  }
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xEE);
    quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(reinterpret_cast<float*>(out + i * out_step),
                     _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
    _mm256_storeu_ps(reinterpret_cast<float*>(out + (i + 4) * out_step),
                     _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
  }
}

}  // namespace
}  // namespace planck

// The walk is written in terms of transpose_block.
#include "kernels/layout/copy_impl.h"

namespace planck {

void copy_any_8x8_avx2(const void* args, int64_t tile, const Worker&) {
  run_copy(*static_cast<const CopyArgs*>(args), tile);
}
void convert_any_1_avx2(const void* args, int64_t tile, const Worker&) {
  run_convert(*static_cast<const ConvertArgs*>(args), tile);
}

}  // namespace planck
