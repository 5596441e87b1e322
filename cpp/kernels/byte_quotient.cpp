#include "kernels/byte_quotient.h"

#include <cmath>
#include <limits>

namespace planck {
namespace {

constexpr float kLeastScale = 0x1p-100F, kMostScale = 0x1p100F;
constexpr int kMostByte = 255;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

float level(const ByteQuotient& by, float x) {
  return std::nearbyint(std::fma(x, by.inverse, x * by.rest));
}

// Both ways lead from k to k + 1 at the same float. Both grow with x, so that the two floats beside
// the bound are enough.
bool same_bound(const ByteQuotient& by, float scale, int32_t k) {
  const auto goes_beyond = [&](float x) {
    return std::nearbyint(x / scale) > static_cast<float>(k);
  };
  float above = static_cast<float>((static_cast<double>(k) + 0.5) * static_cast<double>(scale));
  while (!goes_beyond(above)) above = std::nextafter(above, kInfinity);
  float below = std::nextafter(above, -kInfinity);
  while (goes_beyond(below)) {
    above = below;
    below = std::nextafter(below, -kInfinity);
  }
  return level(by, below) == static_cast<float>(k) && level(by, above) == static_cast<float>(k + 1);
}

bool prove(const ByteQuotient& by, float scale, int32_t zero) {
  const int32_t highest = kMostByte - zero;
  for (int32_t k = -zero; k < highest; ++k) {
    if (!same_bound(by, scale, k)) return false;
  }
  const auto last = static_cast<float>(highest);
  return level(by, by.most) == last && std::nearbyint(by.most / scale) == last;
}

}  // namespace

ByteQuotient byte_quotient(float scale, int32_t zero) {
  if (!(scale >= kLeastScale && scale <= kMostScale) || zero < 0 || zero > kMostByte) return {};
  const double exact = 1 / static_cast<double>(scale);
  ByteQuotient by;
  by.inverse = static_cast<float>(exact);
  by.rest = static_cast<float>(exact - static_cast<double>(by.inverse));
  by.most = static_cast<float>(kMostByte - zero) * scale;
  by.zero = zero;
  by.proved = prove(by, scale, zero);
  return by;
}

}  // namespace planck
