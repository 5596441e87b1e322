#pragma once
// One source for every vector width: included after the vector header of an ISA file.
#include "kernels/dynamic_quantize/dynamic_quantize.h"

namespace planck {
namespace {

struct Part {
  int64_t first, count;
};
PLANCK_INLINE Part part_of(const DynamicQuantizeArgs& a, int64_t tile) {
  const int64_t first = tile * a.part, rest = a.count - first;
  return {first, rest < a.part ? rest : a.part};
}

// min2 and max2 keep their second operand where the first is NaN.
FloatRange range_of(const float* x, int64_t count) {
  F16 low = zero16(), high = zero16();
  const int64_t whole = count / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) {
    const F16 v = load(x + i);
    low = min2(v, low);
    high = max2(v, high);
  }
  const F16 rest = load_first(x + whole, count - whole);  // zeros behind the end
  low = min2(rest, low);
  high = max2(rest, high);
  return {-max_lanes(neg(low)), max_lanes(high)};
}

void range_tile(const DynamicQuantizeArgs& a, int64_t tile) {
  const Part part = part_of(a, tile);
  a.ranges[tile] = range_of(a.x + part.first, part.count);
}

FloatRange whole_range(const DynamicQuantizeArgs& a) {
  FloatRange all = {0, 0};
  for (int64_t i = 0; i < a.parts; ++i) {
    const FloatRange r = a.ranges[i];
    if (r.low < all.low) all.low = r.low;
    if (r.high > all.high) all.high = r.high;
  }
  return all;
}

PLANCK_INLINE void quantize_first(const float* x, uint8_t* out, int64_t count, F16 scale,
                                  F16 zero) {
  uint8_t bytes[16];
  store_bytes(bytes, quantize(load_first(x, count), scale, zero, zero16(), set1(255.0f)));
  for (int64_t i = 0; i < count; ++i) out[i] = bytes[i];
}

void quantize_tile(const DynamicQuantizeArgs& a, int64_t tile) {
  const FloatRange range = whole_range(a);
  const float scale = (range.high - range.low) / 255.0f;
  const F16 by = set1(scale == 0 ? 1.0f : scale);  // then all are zeros or below half of it
  uint8_t zero = 0;
  const float below[16] = {-range.low};
  quantize_first(below, &zero, 1, by, zero16());
  if (tile == 0) {
    *a.scale = scale;
    *a.zero = zero;
  }
  const Part part = part_of(a, tile);
  const float* x = a.x + part.first;
  uint8_t* out = a.out + part.first;
  const F16 shift = set1(static_cast<float>(zero));
  const int64_t whole = part.count / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) {
    store_bytes(out + i, quantize(load(x + i), by, shift, zero16(), set1(255.0f)));
  }
  quantize_first(x + whole, out + whole, part.count - whole, by, shift);
}

}  // namespace
}  // namespace planck
