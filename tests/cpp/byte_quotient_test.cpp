// Bytes by an inverse against bytes by division: around every bound between two bytes, and
// anywhere.
#include "kernels/byte_quotient.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "kernel_rows.h"

namespace planck {
namespace {

int by_division(float x, float scale, int zero) {
  const float level = std::nearbyint(x / scale);
  return static_cast<int>(std::clamp(level + static_cast<float>(zero), 0.0F, 255.0F));
}
int by_inverse(const ByteQuotient& by, float x, int zero) {
  const float clamped = std::min(x, by.most);
  const float level = std::nearbyint(std::fma(clamped, by.inverse, clamped * by.rest));
  return static_cast<int>(std::clamp(level + static_cast<float>(zero), 0.0F, 255.0F));
}

TEST(ByteQuotient, EqualsDivision) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> exponent(-60, 60), level(-300, 300);
  for (int i = 0; i < 300; ++i) {
    const float scale = std::exp2(exponent(random));
    const auto zero = static_cast<int>(random() % 256);
    const ByteQuotient by = byte_quotient(scale, zero);
    ASSERT_TRUE(by.proved) << scale;
    for (int at = 0; at < 300; ++at) {
      float x = level(random) * scale;
      if (at % 2 == 0) x = (std::nearbyint(x / scale) + 0.5F) * scale;  // at a bound
      for (int ulp = 0; ulp < 4; ++ulp, x = std::nextafter(x, kInfinity)) {
        ASSERT_EQ(by_inverse(by, x, zero), by_division(x, scale, zero)) << x << " / " << scale;
      }
    }
  }
}

// The inverse alone, rounded once, is not enough: the proof is no formality.
TEST(ByteQuotient, OneRoundingIsNotEnough) {
  int different = 0;
  for (int i = 0; i < 1000; ++i) {
    const float scale = 0.01F + 1e-5F * static_cast<float>(i), inverse = 1 / scale;
    for (int k = 0; k < 255; ++k) {
      const float x = (static_cast<float>(k) + 0.5F) * scale;
      different += std::nearbyint(x * inverse) != std::nearbyint(x / scale);
    }
  }
  EXPECT_GT(different, 100);
}

TEST(ByteQuotient, NoneForExtremeScales) {
  for (const float scale : {0.0F, -1.0F, 1e-36F, 1e36F, kInfinity, kNotANumber}) {
    EXPECT_FALSE(byte_quotient(scale, 0).proved) << scale;
  }
}

}  // namespace
}  // namespace planck
