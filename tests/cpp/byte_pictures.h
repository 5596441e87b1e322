#pragma once
// Pictures of bytes and windows over them, for the tests of integer kernels.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>

#include "guarded.h"
#include "pictures.h"

namespace planck {

// extreme: 0, 255, -128, 127 alone; small: weights of 7 bits, as for units that add pairs in 16.
// trained: weights about normal, a few of them near the ends of the grid.
enum class Values { random, extreme, small, trained };

template <class T>
inline void randomize(const Guarded<T>& to, Values values, uint32_t seed) {
  std::mt19937 random(seed);
  constexpr T kLow = std::numeric_limits<T>::min(), kHigh = std::numeric_limits<T>::max();
  for (int64_t i = 0; i < to.size(); ++i) {
    const uint32_t bits = random();
    to[i] = values != Values::extreme ? static_cast<T>(bits) : bits % 2 == 0 ? kLow : kHigh;
    if (values == Values::small && std::is_signed_v<T>) to[i] /= 2;
    if (values == Values::trained && std::is_signed_v<T>) {
      constexpr int kTerms = 4;
      int sum = 0;
      for (int term = 0; term < kTerms; ++term) sum += static_cast<int>(random() % 256) - 128;
      to[i] = static_cast<T>(std::clamp<int>(sum / kTerms, kLow, kHigh));
    }
  }
}

inline WindowSteps axis_of(std::mt19937& random, int64_t most) {
  const auto up_to = [&](int64_t n) { return static_cast<int64_t>(random() % n) + 1; };
  WindowSteps a;
  a.in = up_to(most), a.kernel = up_to(4), a.stride = up_to(3), a.dilation = up_to(2);
  if (random() % 2 == 0) a.dilation = 1;
  a.begin = up_to(a.kernel) - 1;
  a.out = up_to(most);  // any extent: windows may lie wholly in the padding
  const int64_t inside = (a.in - (a.kernel - 1) * a.dilation - 1) / a.stride + 1;
  if (random() % 3 == 0 && inside > 0) a.begin = 0, a.out = inside;
  return a;
}

inline Picture picture_of(std::mt19937& random) {
  Picture p;
  p.images = static_cast<int64_t>(random() % 2) + 1;
  p.channels = static_cast<int64_t>(random() % 20) + 1;
  if (random() % 2 == 0) p.channels = (p.channels + 3) / 4 * 4;
  if (random() % 5 == 0) p.channels = 64;  // whole groups of every unit
  p.gap = random() % 3 == 0 ? 3 : 0;
  p.y = random() % 3 == 0 ? WindowSteps{} : axis_of(random, 7);
  p.x = axis_of(random, 20);
  if (random() % 4 == 0) {  // the places as they are
    p.y.kernel = p.x.kernel = p.y.stride = p.x.stride = 1;
    p.y.begin = p.x.begin = 0, p.y.out = p.y.in, p.x.out = p.x.in;
  }
  p.set_steps();
  return p;
}

}  // namespace planck
