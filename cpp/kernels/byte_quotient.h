#pragma once
// Division by a scale on the way to a byte, without dividing: a product and a fused one give the
// same byte for every float. Plain data, so that ISA files can read it.
#include <cstdint>

namespace planck {

// rne(x / scale) = rne(fma(t, inverse, t * rest)), t = min(x, most), as far as it makes a byte:
// what becomes 0 and NaN give any number below, or none.
struct ByteQuotient {
  bool proved = false;          // for all floats; else the rest is not to be used
  float inverse = 1, rest = 0;  // their sum is 1 / scale, to twice the digits
  float most = 0;               // becomes 255, and so does all above
  int32_t zero = 0;             // the zero point
};

// For the zero point `zero`, from 0 to 255. Not proved where numbers on the way might leave the
// normal ones.
ByteQuotient byte_quotient(float scale, int32_t zero);

}  // namespace planck
