#pragma once
// Coefficients that the vector functions (math.h) share with generated code (jit/epilogue.cpp); for
// where they come from see math.h. Static: an inline variable would be a weak symbol in ISA files.

namespace planck {

// (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2; relative error of e^r: fit 3.1e-9.
static constexpr float kExpTail[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239e2p-7f,
                                     0x1.6a2432p-10f};
static constexpr float kLog2E = 0x1.715476p+0f;
// ln 2 = kLn2 + kLn2Rest
static constexpr float kLn2 = 0x1.62e430p-1f, kLn2Rest = -1.9046542e-09f;
static constexpr float kRound = 0x1.8p+23f;  // adding it leaves a whole number in the low bits
// Limits of what exp is taken of: e^kExpHigh rounds to inf. At kExpLow both halves of the power of
// two are 0, so that masks and saturated arguments cost no underflow, which takes some processors
// 150 cycles; e^x rounds to 0 from -104 on already.
static constexpr float kExpLow = -176.0f, kExpHigh = 89.0f;
// Beyond these arguments, 1 + e^x = 1 and 1 - 2 / (e^x + 1) = 1; nothing underflows there.
static constexpr float kExpBesideOne = -87.0f, kExpBeyondOne = 60.0f;

// (tanh(x) / x - 1) / x^2 in x^2, |x| < kTanhSmallEnd; fit 4.4e-9 relative.
static constexpr float kTanhSmall[] = {-0x1.555532p-2f, 0x1.11071ep-3f, -0x1.b83b18p-5f,
                                       0x1.521e02p-6f, -0x1.75b9cep-8f};
static constexpr float kTanhSmallEnd = 0.625f;

// The exponent of the GELU by tanh, -2 sqrt(2 / pi) (x + 0.044715 x^3), over x.
static constexpr float kGeluTanhSquare = -0.0713548163f, kGeluTanhOne = -1.59576912f;

}  // namespace planck
