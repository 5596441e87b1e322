#include <cstdint>

namespace planck {
namespace {

template <class T>
inline void transpose_block(const T* x, int64_t x_step, T* out, int64_t out_step) {
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 8; ++c) out[r * out_step + c] = x[r + c * x_step];
  }
}

template <class T>
inline void interleave_three(const T* x, int64_t x_step, int64_t rows, T* out, int64_t out_step) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int c = 0; c < 3; ++c) out[r * out_step + c] = x[r + c * x_step];
  }
}

}  // namespace
}  // namespace planck

// The walk is written in terms of transpose_block.
#include "kernels/layout/copy_impl.h"

namespace planck {

void copy_any_8x8_portable(const void* args, int64_t tile, const Worker&) {
  run_copy(*static_cast<const CopyArgs*>(args), tile);
}
void convert_any_1_portable(const void* args, int64_t tile, const Worker&) {
  run_convert(*static_cast<const ConvertArgs*>(args), tile);
}

}  // namespace planck
