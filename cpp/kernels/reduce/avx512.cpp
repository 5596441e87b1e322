#include <immintrin.h>

#include <cstdint>

namespace planck {
namespace {

inline double square_root(double x) { return _mm_cvtsd_f64(_mm_sqrt_pd(_mm_set_sd(x))); }

template <int64_t kVectors>
inline void add_rows(const float* x, int64_t rows, int64_t step, double* sums) {
  __m512d all[kVectors];
#pragma GCC unroll 4
  for (int64_t v = 0; v < kVectors; ++v) all[v] = _mm512_loadu_pd(sums + 8 * v);
  for (int64_t r = 0; r < rows; ++r, x += step) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) {
      all[v] = _mm512_add_pd(all[v], _mm512_maskz_cvtps_pd(0xFF, _mm256_loadu_ps(x + 8 * v)));
    }
  }
#pragma GCC unroll 4
  for (int64_t v = 0; v < kVectors; ++v) _mm512_storeu_pd(sums + 8 * v, all[v]);
}

}  // namespace
}  // namespace planck

// The loops are written in terms of these.
#include "kernels/reduce/reduce_impl.h"

namespace planck {

void reduce_any_128_avx512(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const ReduceArgs*>(args), tile);
}
void reduce_any_128_avx512_parts(const void* args, int64_t tile, const Worker&) {
  sum_part(*static_cast<const ReduceArgs*>(args), tile);
}

}  // namespace planck
