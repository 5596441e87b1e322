#pragma once
// Sixteen floats as an array; the contract is the one of simd/vec_avx2.h, bit for bit. fma is the C
// library's correctly rounded fmaf: slow where the processor has no FMA, but the same bits.
#include <cstdint>

#define PLANCK_INLINE inline __attribute__((always_inline))

namespace planck {
namespace {

struct F16 {
  float v[16];
};
struct I16 {
  int32_t v[16];
};
struct M16 {
  bool v[16];
};

// out.v[i] = expression in i, for the sixteen lanes.
#define PLANCK_LANES(Type, expression)                  \
  Type out;                                             \
  for (int i = 0; i < 16; ++i) out.v[i] = (expression); \
  return out

PLANCK_INLINE F16 set1(float x) { PLANCK_LANES(F16, x); }
PLANCK_INLINE I16 set1i(int32_t x) { PLANCK_LANES(I16, x); }
PLANCK_INLINE F16 load(const float* p) { PLANCK_LANES(F16, p[i]); }
PLANCK_INLINE void store(float* p, F16 x) { __builtin_memcpy(p, x.v, sizeof x.v); }

PLANCK_INLINE M16 first_lanes(int64_t n) { PLANCK_LANES(M16, i < n); }
PLANCK_INLINE F16 load_first(const float* p, int64_t n) { PLANCK_LANES(F16, i < n ? p[i] : 0.0f); }
PLANCK_INLINE void store_first(float* p, F16 x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = x.v[i];
}

PLANCK_INLINE F16 load_quads(const float* a, const float* b, const float* c, const float* d) {
  PLANCK_LANES(F16, (i < 4 ? a : i < 8 ? b : i < 12 ? c : d)[i % 4]);
}
PLANCK_INLINE void transpose_quads(F16 (&x)[4]) {
  for (int quad = 0; quad < 16; quad += 4) {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < i; ++j) {
        const float swapped = x[i].v[quad + j];
        x[i].v[quad + j] = x[j].v[quad + i];
        x[j].v[quad + i] = swapped;
      }
    }
  }
}

PLANCK_INLINE F16 load_pairs(const float* p, const int64_t* at) {
  PLANCK_LANES(F16, p[at[i / 2] + i % 2]);
}
PLANCK_INLINE F16 add_pairs(F16 x, F16 y) {
  F16 out;
  for (int64_t i = 0; i < 8; ++i) {
    out.v[i] = x.v[2 * i] + x.v[2 * i + 1];
    out.v[i + 8] = y.v[2 * i] + y.v[2 * i + 1];
  }
  return out;
}

PLANCK_INLINE F16 operator+(F16 x, F16 y) { PLANCK_LANES(F16, x.v[i] + y.v[i]); }
PLANCK_INLINE F16 operator-(F16 x, F16 y) { PLANCK_LANES(F16, x.v[i] - y.v[i]); }
PLANCK_INLINE F16 operator*(F16 x, F16 y) { PLANCK_LANES(F16, x.v[i] * y.v[i]); }
PLANCK_INLINE F16 operator/(F16 x, F16 y) { PLANCK_LANES(F16, x.v[i] / y.v[i]); }
PLANCK_INLINE F16 fma(F16 x, F16 y, F16 z) {
  PLANCK_LANES(F16, __builtin_fmaf(x.v[i], y.v[i], z.v[i]));
}
PLANCK_INLINE F16 fnma(F16 x, F16 y, F16 z) {
  PLANCK_LANES(F16, __builtin_fmaf(-x.v[i], y.v[i], z.v[i]));
}

// Floats of one register, of which an F16 has one or two.
constexpr int kRegisterLanes = 16;

PLANCK_INLINE F16 min2(F16 x, F16 y) { PLANCK_LANES(F16, x.v[i] < y.v[i] ? x.v[i] : y.v[i]); }
PLANCK_INLINE F16 max2(F16 x, F16 y) { PLANCK_LANES(F16, x.v[i] > y.v[i] ? x.v[i] : y.v[i]); }
PLANCK_INLINE F16 sqrt(F16 x) { PLANCK_LANES(F16, __builtin_sqrtf(x.v[i])); }
PLANCK_INLINE F16 trunc(F16 x) {
  // From 2^23 on (and for NaN) every float is whole.
  PLANCK_LANES(F16,
               x.v[i] > -8388608.0f && x.v[i] < 8388608.0f
                   ? __builtin_copysignf(static_cast<float>(static_cast<int32_t>(x.v[i])), x.v[i])
                   : x.v[i]);
}

PLANCK_INLINE I16 bits(F16 x) { return __builtin_bit_cast(I16, x); }
PLANCK_INLINE F16 floats(I16 x) { return __builtin_bit_cast(F16, x); }
PLANCK_INLINE F16 to_float(I16 x) { PLANCK_LANES(F16, static_cast<float>(x.v[i])); }
PLANCK_INLINE I16 load_s32(const void* p) {
  I16 out;
  __builtin_memcpy(out.v, p, sizeof out.v);
  return out;
}
PLANCK_INLINE I16 load_u8(const void* p) { PLANCK_LANES(I16, static_cast<const uint8_t*>(p)[i]); }
PLANCK_INLINE I16 load_s8(const void* p) {
  const auto* from = static_cast<const uint8_t*>(p);
  PLANCK_LANES(I16, from[i] < 128 ? from[i] : from[i] - 256);
}
PLANCK_INLINE void store_bytes(void* p, F16 x) {
  auto* to = static_cast<uint8_t*>(p);
  for (int i = 0; i < 16; ++i) to[i] = static_cast<uint8_t>(static_cast<int32_t>(x.v[i]));
}
// The nearest whole numbers, + zero, between 0 and 255; NaN and what leaves int32 become 0.
PLANCK_INLINE void store_levels(void* p, F16 x, int32_t zero) {
  auto* to = static_cast<uint8_t*>(p);
  for (int i = 0; i < 16; ++i) {
    const float low = x.v[i] > -256.0f ? x.v[i] : -256.0f;
    const float level = low < 256.0f ? low : 256.0f;
    const int32_t byte = static_cast<int32_t>((level + 0x1.8p23f) - 0x1.8p23f) + zero;
    to[i] = static_cast<uint8_t>(byte < 0 ? 0 : byte > 255 ? 255 : byte);
  }
}
PLANCK_INLINE void store_levels(void* p, const F16 (&x)[4], int32_t zero) {
  for (int64_t i = 0; i < 4; ++i) store_levels(static_cast<uint8_t*>(p) + 16 * i, x[i], zero);
}
// Through unsigned: the sum wraps as in a vector register.
PLANCK_INLINE int32_t wrap(uint32_t x) { return static_cast<int32_t>(x); }
PLANCK_INLINE I16 operator+(I16 x, I16 y) {
  PLANCK_LANES(I16, wrap(static_cast<uint32_t>(x.v[i]) + static_cast<uint32_t>(y.v[i])));
}
PLANCK_INLINE I16 operator-(I16 x, I16 y) {
  PLANCK_LANES(I16, wrap(static_cast<uint32_t>(x.v[i]) - static_cast<uint32_t>(y.v[i])));
}
PLANCK_INLINE I16 max2(I16 x, I16 y) { PLANCK_LANES(I16, x.v[i] > y.v[i] ? x.v[i] : y.v[i]); }
PLANCK_INLINE I16 operator&(I16 x, I16 y) { PLANCK_LANES(I16, x.v[i] & y.v[i]); }
PLANCK_INLINE I16 operator|(I16 x, I16 y) { PLANCK_LANES(I16, x.v[i] | y.v[i]); }
PLANCK_INLINE I16 operator^(I16 x, I16 y) { PLANCK_LANES(I16, x.v[i] ^ y.v[i]); }
template <int kBits>
PLANCK_INLINE I16 shift_left(I16 x) {
  PLANCK_LANES(I16, wrap(static_cast<uint32_t>(x.v[i]) << kBits));
}
template <int kBits>
PLANCK_INLINE I16 shift_right(I16 x) {
  PLANCK_LANES(I16, x.v[i] >> kBits);
}

PLANCK_INLINE M16 operator<(F16 x, F16 y) { PLANCK_LANES(M16, x.v[i] < y.v[i]); }
PLANCK_INLINE M16 operator==(F16 x, F16 y) { PLANCK_LANES(M16, x.v[i] == y.v[i]); }
PLANCK_INLINE M16 is_nan(F16 x) { PLANCK_LANES(M16, x.v[i] != x.v[i]); }
PLANCK_INLINE M16 operator&(M16 x, M16 y) { PLANCK_LANES(M16, x.v[i] && y.v[i]); }
PLANCK_INLINE M16 operator|(M16 x, M16 y) { PLANCK_LANES(M16, x.v[i] || y.v[i]); }
PLANCK_INLINE F16 select(M16 m, F16 yes, F16 no) { PLANCK_LANES(F16, m.v[i] ? yes.v[i] : no.v[i]); }
PLANCK_INLINE F16 select_by_sign(F16 x, F16 yes, F16 no) {
  PLANCK_LANES(F16, __builtin_signbit(x.v[i]) ? yes.v[i] : no.v[i]);
}

PLANCK_INLINE float sum_lanes(F16 x) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x.v[i] += x.v[i + half];
  }
  return x.v[0];
}
PLANCK_INLINE float max_lanes(F16 x) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      x.v[i] = x.v[i] > x.v[i + half] ? x.v[i] : x.v[i + half];
    }
  }
  return x.v[0];
}
PLANCK_INLINE bool any(M16 m) {
  bool found = false;
  for (int i = 0; i < 16; ++i) found = found || m.v[i];
  return found;
}

}  // namespace
}  // namespace planck

#include "kernels/simd/math.h"
