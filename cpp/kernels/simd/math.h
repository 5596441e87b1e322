#pragma once
// Elementary functions over F16. Included by simd/vec_ISA.h, which defines F16; nobody else may
// include it. fma is explicit wherever a product and a sum share one rounding.
//
// Coefficients: own weighted minimax fits (Lawson iteration, 400 to 600 Chebyshev nodes, targets
// from mpmath at 40 digits), rounded to fp32; "fit" below is the error before rounding. The errors
// of the finished functions are bounded by tests/cpp/eltwise_test.cpp.
#include <cstdint>

#include "kernels/byte_quotient.h"
#include "kernels/simd/coefficients.h"
#include "kernels/simd/gelu_root.h"

namespace planck {
namespace {

PLANCK_INLINE F16 zero16() { return set1(0.0f); }
PLANCK_INLINE F16 neg(F16 x) { return floats(bits(x) ^ set1i(INT32_MIN)); }
PLANCK_INLINE F16 abs(F16 x) { return floats(bits(x) & set1i(INT32_MAX)); }
// The magnitude, which must not be negative, with the sign of `sign`.
PLANCK_INLINE F16 with_sign(F16 magnitude, F16 sign) {
  return floats(bits(magnitude) | (bits(sign) & set1i(INT32_MIN)));
}
// NaN if either is NaN.
PLANCK_INLINE F16 min_nan(F16 x, F16 y) { return select(is_nan(x), x, min2(x, y)); }
PLANCK_INLINE F16 max_nan(F16 x, F16 y) { return select(is_nan(x), x, max2(x, y)); }

// c[0] + c[1] x + ... by Horner's rule.
template <int kCount>
PLANCK_INLINE F16 polynomial(const float (&c)[kCount], F16 x) {
  F16 sum = set1(c[kCount - 1]);
#pragma GCC unroll 16
  for (int i = kCount - 2; i >= 0; --i) sum = fma(sum, x, set1(c[i]));
  return sum;
}

// e^(x + rest) for x in [kExpLow, kExpHigh] and a rest of a few ulps of x. 2^n is applied in two
// halves, so that results below 2^-126 round once and results above the range become inf.
PLANCK_INLINE F16 exp_clamped(F16 x, F16 rest) {
  const F16 shifted = fma(x, set1(kLog2E), set1(kRound));
  const F16 n = shifted - set1(kRound);
  const F16 r = fnma(n, set1(kLn2Rest), fnma(n, set1(kLn2), x)) + rest;
  const F16 e = fma(polynomial(kExpTail, r), r * r, r) + set1(1.0f);
  const I16 power = bits(shifted) - set1i(0x4B400000);  // the bits of kRound
  const I16 half = shift_right<1>(power);
  const F16 first = floats(shift_left<23>(half + set1i(127)));
  const F16 second = floats(shift_left<23>(power - half + set1i(127)));
  return e * first * second;
}

// Both clamps keep NaN.
PLANCK_INLINE F16 clamp_exp(F16 x, float low = kExpLow) {
  return max2(set1(low), min2(set1(kExpHigh), x));
}
PLANCK_INLINE F16 exp(F16 x) { return exp_clamped(clamp_exp(x), zero16()); }

// exp_flush gives 0 from here on down: its power of two is 2^-127, all of whose bits are 0.
constexpr float kFlushBelow = -87.69f;

#define PLANCK_EACH _Pragma("GCC unroll 8") for (int i = 0; i < kCount; ++i)

// (exp(x) - 1) * scale + scale, for x of at most half of ln 2.
template <int kCount>
PLANCK_INLINE void exp_scaled(F16 (&x)[kCount], const F16 (&scale)[kCount]) {
  F16 tail[kCount];
  PLANCK_EACH tail[i] = fma(set1(kExpTail[4]), x[i], set1(kExpTail[3]));
  PLANCK_EACH tail[i] = fma(tail[i], x[i], set1(kExpTail[2]));
  PLANCK_EACH tail[i] = fma(tail[i], x[i], set1(kExpTail[1]));
  PLANCK_EACH tail[i] = fma(tail[i], x[i], set1(kExpTail[0]));
  PLANCK_EACH tail[i] = fma(tail[i], x[i] * x[i], x[i]);
  PLANCK_EACH x[i] = fma(tail[i], scale[i], scale[i]);
}

// exp for x <= 0 (or NaN), where the exponent fits one factor. For softmax, whose sum is at least
// 1. The vectors take each step together: one of them would wait for itself.
template <int kCount>
PLANCK_INLINE void exp_flush(F16 (&x)[kCount]) {
  F16 shifted[kCount], n[kCount], scale[kCount];
  PLANCK_EACH x[i] = max2(set1(-88.0f), x[i]);  // keeps NaN
  PLANCK_EACH shifted[i] = fma(x[i], set1(kLog2E), set1(kRound));
  PLANCK_EACH n[i] = shifted[i] - set1(kRound);
  PLANCK_EACH x[i] = fnma(n[i], set1(kLn2), x[i]);
  PLANCK_EACH x[i] = fnma(n[i], set1(kLn2Rest), x[i]);
  PLANCK_EACH scale[i] = floats(shift_left<23>(bits(shifted[i])) + set1i(0x3F800000));
  exp_scaled(x, scale);
}
#undef PLANCK_EACH

PLANCK_INLINE F16 exp_flush(F16 x) {
  F16 one[1] = {x};
  exp_flush(one);
  return one[0];
}

// (ln(1 + f) - f + f^2 / 2) / f^3 on [sqrt 1/2 - 1, sqrt 2 - 1]; relative error of ln: fit 7.5e-10.
constexpr float kLogTail[] = {0x1.555548p-2f,  -0x1.000006p-2f, 0x1.99a4b8p-3f,
                              -0x1.555c4ep-3f, 0x1.23373ap-3f,  -0x1.fc2196p-4f,
                              0x1.e6f2d8p-4f,  -0x1.de4024p-4f, 0x1.14571ap-4f};
// ln 2 in two parts; a whole number of 8 bits times the first is exact.
constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 1.4286068e-06f;

struct Decomposed {
  F16 e, f;  // x = 2^e (1 + f), sqrt 1/2 <= 1 + f < sqrt 2
};
// For finite x > 0; denormals are scaled first.
PLANCK_INLINE Decomposed decompose(F16 x) {
  const M16 denormal = x < set1(0x1p-126f);
  const F16 scaled = select(denormal, x * set1(0x1p+24f), x);
  const I16 sqrt_half = set1i(0x3F3504F3);
  const I16 offset = bits(scaled) - sqrt_half;
  const F16 e = to_float(shift_right<23>(offset)) - select(denormal, set1(24.0f), zero16());
  const F16 m = floats((offset & set1i(0x007FFFFF)) + sqrt_half);
  return {e, m - set1(1.0f)};
}

constexpr float kInf = __builtin_inff();
constexpr float kNan = __builtin_nanf("");

// What ln gives outside the finite positive numbers, from the result inside.
PLANCK_INLINE F16 log_edges(F16 x, F16 inside) {
  const F16 positive = select(x < set1(kInf), inside, x);  // inf and NaN stay
  const M16 zero = x == zero16();
  return select((x < zero16()) | zero, select(zero, set1(-kInf), set1(kNan)), positive);
}

PLANCK_INLINE F16 log(F16 x) {
  const Decomposed d = decompose(x);
  const F16 square = d.f * d.f;
  F16 sum = square * d.f * polynomial(kLogTail, d.f);
  sum = fma(d.e, set1(kLn2Low), sum);
  sum = fnma(set1(0.5f), square, sum) + d.f;
  return log_edges(x, fma(d.e, set1(kLn2High), sum));
}

// erf(x) / x - 1 in x^2, |x| < 0.921875; fit 4.1e-10 relative.
constexpr float kErfSmall[] = {0x1.06eba8p-3f, -0x1.812744p-2f,  0x1.ce2e1ep-4f, -0x1.b81060p-6f,
                               0x1.54d9cap-8f, -0x1.aadff4p-11f, 0x1.5ef0d2p-14f};
// -ln erfc(x) on [0.92, 4]; fit 4.2e-11 of erfc. From 3.93 on erf rounds to 1.
constexpr float kErfLarge[] = {-0x1.70d578p-13f, 0x1.212846p+0f, 0x1.444470p-1f,   0x1.bb926cp-4f,
                               -0x1.9bb50ep-6f,  0x1.1196d6p-8f, -0x1.c85bfcp-12f, 0x1.63096ap-16f};

PLANCK_INLINE F16 erf(F16 x) {
  const F16 small = fma(polynomial(kErfSmall, x * x), x, x);
  const F16 t = min2(set1(4.0f), abs(x));  // keeps NaN
  const F16 large = set1(1.0f) - exp_clamped(neg(polynomial(kErfLarge, t)), zero16());
  return select(abs(x) < set1(0.921875f), small, with_sign(large, x));
}

PLANCK_INLINE F16 tanh(F16 x) {
  const F16 square = x * x;
  const F16 small = fma(polynomial(kTanhSmall, square) * square, x, x);
  const F16 magnitude = abs(x);
  const F16 twice = min2(set1(kExpBeyondOne), magnitude + magnitude);  // keeps NaN
  const F16 grown = exp_clamped(twice, zero16()) + set1(1.0f);
  const F16 large = set1(1.0f) - set1(2.0f) / grown;
  return select(magnitude < set1(kTanhSmallEnd), small, with_sign(large, x));
}

// With e = exp(-|x|) <= 1: 1 / (1 + e), and e / (1 + e) for negative x. Relatively exact at both
// ends.
PLANCK_INLINE F16 sigmoid(F16 x) {
  const F16 e = exp(neg(abs(x)));
  return select(x < zero16(), e, set1(1.0f)) / (set1(1.0f) + e);
}

// x / (1 + exp(-x)), without the subnormal numbers of sigmoid. -inf gives NaN, as the formula does.
PLANCK_INLINE F16 swish(F16 x) {
  const F16 e = exp_flush(neg(abs(x)));
  return x * (select(x < zero16(), e, set1(1.0f)) / (set1(1.0f) + e));
}

// -inf gives NaN, as the formula does.
PLANCK_INLINE F16 hard_swish(F16 x) {
  const F16 ramp = fma(x, set1(1.0f / 6), set1(0.5f));
  return x * min2(set1(1.0f), max2(zero16(), ramp));
}

PLANCK_INLINE F16 relu(F16 x) { return max2(zero16(), x); }  // keeps NaN

// x Phi(x); absolute error at most 1.7e-7 max(1, |x|). -inf gives NaN, as the formula does.
PLANCK_INLINE F16 gelu_erf(F16 x) {
  const F16 a = min2(set1(kGeluEnd), abs(x));                 // keeps NaN
  const F16 root = max2(zero16(), polynomial(kGeluRoot, a));  // keeps NaN
  const F16 root2 = root * root;
  const F16 root4 = root2 * root2;
  const F16 tail = root4 * root4;
  return x * select_by_sign(x, tail, set1(1.0f) - tail);
}

// 0.5 x (1 + tanh z) = x / (1 + e^(-2 z)), z = sqrt(2 / pi) (x + 0.044715 x^3).
PLANCK_INLINE F16 gelu_tanh(F16 x) {
  const F16 scale = fma(x * x, set1(kGeluTanhSquare), set1(kGeluTanhOne));
  return x / (set1(1.0f) + exp_clamped(clamp_exp(scale * x, kExpBesideOne), zero16()));
}

struct TwoFloats {
  F16 high, low;  // their sum is the value
};
// ln x, relative error about 2^-27.
PLANCK_INLINE TwoFloats log_two(F16 x) {
  const Decomposed d = decompose(x);
  const F16 square = d.f * d.f;
  const F16 square_rest = fma(d.f, d.f, neg(square));
  const F16 half_square = set1(0.5f) * square;
  const F16 main = d.f - half_square;
  const F16 main_rest = (d.f - main) - half_square;
  const F16 power = d.e * set1(kLn2High);  // exact
  const F16 high = power + main;
  F16 low = (power - high) + main;
  low = low + fma(square * d.f, polynomial(kLogTail, d.f), main_rest);
  low = fma(d.e, set1(kLn2Low), fnma(set1(0.5f), square_rest, low));
  return {log_edges(x, high), low};
}

// C's pow: its rules of signs and edges.
PLANCK_INLINE F16 pow(F16 x, F16 y) {
  const F16 one = set1(1.0f), base = abs(x);
  const TwoFloats ln = log_two(base);
  const F16 high = y * ln.high;
  const F16 rest = fma(y, ln.low, fma(y, ln.high, neg(high)));
  // Beyond the range of exp the rest may be inf - inf.
  const M16 in_range = abs(high) < set1(104.0f);
  const F16 power = exp_clamped(clamp_exp(high), select(in_range, rest, zero16()));
  const F16 half = y * set1(0.5f);
  const M16 whole = trunc(y) == y;
  const F16 odd_or_even = select(trunc(half) == half, power, neg(power));
  const F16 signed_power = select_by_sign(x, select(whole, odd_or_even, power), power);
  const M16 negative = (x < zero16()) & (set1(-kInf) < x);
  const F16 real = select(negative, select(whole, signed_power, set1(kNan)), signed_power);
  const M16 unit_to_inf = (base == one) & (abs(y) == set1(kInf));
  return select((y == zero16()) | (x == one) | unit_to_inf, one, real);
}

// Rounding to whole numbers; the sign of zero stays.
PLANCK_INLINE F16 floor(F16 x) {
  const F16 whole = trunc(x);
  return select(x < whole, whole - set1(1.0f), whole);
}
PLANCK_INLINE F16 ceil(F16 x) {
  const F16 whole = trunc(x);
  return select(whole < x, whole + set1(1.0f), whole);
}
PLANCK_INLINE F16 round(F16 x) {  // halves to even; from 2^23 on every float is whole
  const F16 magnitude = abs(x), shift = set1(0x1p+23f);
  return select(magnitude < shift, with_sign((magnitude + shift) - shift, x), x);
}

// clamp(round(x / scale) + zero, low, high) with whole zero, low and high of a few thousand at
// most; low for NaN. Clamping first is the same, and leaves numbers that a shift rounds.
PLANCK_INLINE F16 quantize(F16 x, F16 scale, F16 zero, F16 low, F16 high) {
  const F16 ratio = min2(max2(x / scale, low - zero), high - zero);
  return (ratio + set1(kRound)) - set1(kRound) + zero;
}

// x / scale by what byte_quotient.h proves, for store_levels: no byte is too large then.
PLANCK_INLINE F16 level_by(F16 x, const ByteQuotient& by) {
  const F16 t = min2(set1(by.most), x);  // keeps NaN
  return fma(t, set1(by.inverse), t * set1(by.rest));
}

// x = quarters * pi / 2 + rest, |rest| <= pi / 4; of the quarters only the last two bits count.
struct Angle {
  I16 quarters;
  F16 rest;
};
constexpr float kTwoOverPi = 0x1.45f306p-1f;
// pi / 2 in three parts; absolute error of the rest below 2^-25 up to kLargeAngle.
constexpr float kHalfPi[] = {0x1.921fb6p+0f, -0x1.777a5cp-25f, -0x1.ee59dap-50f};
constexpr float kLargeAngle = 0x1p+16f;
// 2 / pi, the first 256 bits behind the point.
constexpr uint64_t kTwoOverPiBits[] = {0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041,
                                       0xfe5163abdebbc561};

// One angle of kLargeAngle or more: x = m 2^e, and only those bits of 2 / pi count that do not make
// whole turns. NaN for infinities.
inline int32_t large_angle(float x, float* rest) {
  const auto all = __builtin_bit_cast(uint32_t, x);
  const int32_t biased = static_cast<int32_t>(all >> 23 & 255);
  if (biased == 255) {
    *rest = kNan;
    return 0;
  }
  const uint64_t m = (all & 0x7FFFFF) | 0x800000;
  const int32_t first = biased - 150 - 2;  // bit of 2 / pi that is worth two quarters
  uint64_t window[2] = {};
  for (int32_t i = 0; i < 128; ++i) {
    const int32_t at = first + i;
    const uint64_t bit = at < 0 ? 0 : kTwoOverPiBits[at / 64] >> (63 - at % 64) & 1;
    window[i / 64] = window[i / 64] << 1 | bit;
  }
  // The product modulo 4 quarters, as a fraction of 2^64.
  const uint64_t low = (window[1] >> 32) * m;
  const uint64_t turns = window[0] * m + (low >> 32);
  const uint64_t quarters = (turns + (uint64_t{1} << 61)) >> 62;
  const auto part = static_cast<int64_t>(turns - (quarters << 62));
  const auto r = static_cast<float>(static_cast<double>(part) * 0x1.921fb54442d18p-62);
  const bool negative = (all >> 31) != 0;
  *rest = negative ? -r : r;
  return static_cast<int32_t>(negative ? 4 - quarters : quarters) & 3;
}

inline __attribute__((noinline)) void large_angles(const float* x, float* quarters, float* rest) {
  for (int i = 0; i < 16; ++i) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    if (!(magnitude >= kLargeAngle)) continue;
    quarters[i] = __builtin_bit_cast(float, large_angle(x[i], &rest[i]));
  }
}

PLANCK_INLINE Angle angle(F16 x) {
  const F16 shifted = fma(x, set1(kTwoOverPi), set1(kRound));
  const F16 n = shifted - set1(kRound);
  const F16 near = fnma(n, set1(kHalfPi[1]), fnma(n, set1(kHalfPi[0]), x));
  const Angle small{bits(shifted), fnma(n, set1(kHalfPi[2]), near)};
  if (!any(set1(kLargeAngle) < abs(x))) return small;
  float in[16], quarters[16], rest[16];
  store(in, x);
  store(quarters, floats(small.quarters));
  store(rest, small.rest);
  large_angles(in, quarters, rest);
  return {bits(load(quarters)), load(rest)};
}

// (sin r - r) / r^3 and (cos r - 1 + r^2 / 2) / r^4 in r^2, |r| <= pi / 4; fit 3.9e-9, 1.2e-10.
constexpr float kSin[] = {-0x1.555546p-3f, 0x1.110736p-7f, -0x1.994222p-13f};
constexpr float kCos[] = {0x1.55554ap-5f, -0x1.6c0c2ep-10f, 0x1.99ea04p-16f};

// The sine of an angle that is `ahead` quarters further; absolute error at most 1e-7.
template <int kAhead>
PLANCK_INLINE F16 sin_ahead(F16 x) {
  const Angle a = angle(x);
  const I16 quarters = a.quarters + set1i(kAhead);
  const F16 square = a.rest * a.rest;
  const F16 sine = fma(polynomial(kSin, square) * square, a.rest, a.rest);
  const F16 top = fnma(set1(0.5f), square, set1(1.0f));
  const F16 cosine = fma(polynomial(kCos, square), square * square, top);
  const F16 value = select_by_sign(floats(shift_left<31>(quarters)), cosine, sine);
  return floats(bits(value) ^ (shift_left<30>(quarters) & set1i(INT32_MIN)));
}
PLANCK_INLINE F16 sin(F16 x) { return sin_ahead<0>(x); }
PLANCK_INLINE F16 cos(F16 x) { return sin_ahead<1>(x); }

}  // namespace
}  // namespace planck
