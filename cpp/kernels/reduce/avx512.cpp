#include <immintrin.h>

namespace planck {
namespace {

inline double square_root(double x) { return _mm_cvtsd_f64(_mm_sqrt_pd(_mm_set_sd(x))); }

}  // namespace
}  // namespace planck

// The loops are written in terms of square_root.
#include "kernels/reduce/reduce_impl.h"

namespace planck {

void reduce_any_128_avx512(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const ReduceArgs*>(args), tile);
}

}  // namespace planck
