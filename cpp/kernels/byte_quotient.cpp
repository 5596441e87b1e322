#include "kernels/byte_quotient.h"

#include <cmath>
#include <limits>

namespace planck {
namespace {

constexpr float kLeastScale = 0x1p-100F, kMostScale = 0x1p100F;
constexpr int kBytes = 256;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

float quotient(const ByteQuotient& by, float x) {
  return std::nearbyint(std::fma(x, by.inverse, x * by.rest));
}

// Both ways lead from k to k + 1 at the same float. Both grow with x, so that the floats around the
// bound are enough: a quotient that is rounded once or twice is off by less than two of them.
bool same_bound(const ByteQuotient& by, float scale, int32_t k) {
  constexpr int kAround = 3;
  float x = static_cast<float>((static_cast<double>(k) + 0.5) * static_cast<double>(scale));
  for (int i = 0; i < kAround; ++i) x = std::nextafter(x, -kInfinity);
  if (quotient(by, x) != static_cast<float>(k)) return false;
  for (int i = 0; i < 2 * kAround; ++i, x = std::nextafter(x, kInfinity)) {
    if (quotient(by, x) != std::nearbyint(x / scale)) return false;
  }
  return quotient(by, x) == static_cast<float>(k + 1) && std::nearbyint(x / scale) > k;
}

}  // namespace

std::optional<ByteQuotient> byte_quotient(float scale, int32_t zero) {
  if (!(scale >= kLeastScale && scale <= kMostScale)) return std::nullopt;
  const double exact = 1 / static_cast<double>(scale);
  const auto inverse = static_cast<float>(exact);
  const auto rest = static_cast<float>(exact - static_cast<double>(inverse));
  const int32_t highest = kBytes - 1 - zero;
  const ByteQuotient by{inverse, rest, static_cast<float>(highest) * scale};
  for (int32_t k = -zero; k < highest; ++k) {
    if (!same_bound(by, scale, k)) return std::nullopt;
  }
  const auto last = static_cast<float>(highest);
  if (quotient(by, by.most) != last || std::nearbyint(by.most / scale) != last) return std::nullopt;
  return by;
}

}  // namespace planck
