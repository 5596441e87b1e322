#pragma once
// Division by a scale on the way to a byte, without dividing: a product and a fused one give the
// same byte for every float.
#include <cstdint>
#include <optional>

namespace planck {

// rne(x / scale) = rne(fma(min(x, most), inverse, min(x, most) * rest)) as far as it leads to a
// byte: below what becomes 0, and for NaN, both lie there or are no number.
struct ByteQuotient {
  float inverse, rest;  // inverse + rest is 1 / scale, to twice the digits
  float most;           // becomes 255, and so does all above
};

// Proved for this scale and zero point, from 0 to 255; none where that fails, or where numbers on
// the way might leave the normal ones.
std::optional<ByteQuotient> byte_quotient(float scale, int32_t zero);

}  // namespace planck
