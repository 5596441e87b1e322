#include <cstdint>

namespace planck {
namespace {

inline double square_root(double x) { return __builtin_sqrt(x); }

template <int64_t kVectors>
inline void add_rows(const float* x, int64_t rows, int64_t step, double* sums) {
  for (int64_t r = 0; r < rows; ++r, x += step) {
    for (int64_t i = 0; i < 8 * kVectors; ++i) sums[i] += static_cast<double>(x[i]);
  }
}

}  // namespace
}  // namespace planck

// The loops are written in terms of these.
#include "kernels/reduce/reduce_impl.h"

namespace planck {

void reduce_any_128_portable(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const ReduceArgs*>(args), tile);
}
void reduce_any_128_portable_parts(const void* args, int64_t tile, const Worker&) {
  sum_part(*static_cast<const ReduceArgs*>(args), tile);
}

}  // namespace planck
