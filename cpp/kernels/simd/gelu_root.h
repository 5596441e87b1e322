#pragma once
// The polynomial behind GELU, for the vector functions and for generated code.

namespace planck {

// (erfc(a / sqrt 2) / 2)^(1/8) on [0, 7.58]: three squarings give the tail of the normal
// distribution with a small relative error as far as it matters, so one polynomial, without exp and
// without division, serves all x. Fit: |x| times the tail is right to 7.2e-8 (itself + 3e-3 min(1,
// |x|)). Static: an inline variable would be a weak symbol in ISA files.
static constexpr float kGeluRoot[] = {
    0x1.d5818ep-1f,  -0x1.769c42p-4f,  -0x1.058cecp-5f, -0x1.60d500p-11f, 0x1.8ac586p-10f,
    0x1.129656p-15f, -0x1.f1ec8ap-15f, 0x1.e27f74p-18f, -0x1.0a0314p-22f, -0x1.b8ade0p-29f};

// The polynomial's root: in fp32 it is negative here, and what is negative counts as 0, so from
// here on Phi is exactly 0 or 1. Powers of the small negative number would underflow to the same,
// which takes some processors 150 cycles.
static constexpr float kGeluEnd = 0x1.e58904p+2f;

}  // namespace planck
