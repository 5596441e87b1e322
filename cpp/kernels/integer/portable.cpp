#include "kernels/integer/integer_impl.h"

namespace planck {

void integer_any_1_portable(const void* args, int64_t tile, const Worker&) {
  run_tile(*static_cast<const IntegerArgs*>(args), tile);
}

}  // namespace planck
