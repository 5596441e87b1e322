#pragma once
// Windows over pictures whose channels are innermost: the geometry that convolutions and pools
// share. Plain data, for ISA files too.
#include <cstdint>

namespace planck {

// One spatial axis; steps count elements.
struct WindowSteps {
  int64_t in = 1, out = 1;  // extents
  int64_t kernel = 1, stride = 1, dilation = 1;
  int64_t begin = 0;  // padding in front
  int64_t step = 0;   // from place to place of the input
};

}  // namespace planck
