#pragma once
// Sums over windows in which each channel stays by itself, as generated code: neighbouring outputs
// of a line for one vector of channels.
// Goals: every place is loaded once for all outputs that read it, the weights of a row of taps stay
// in registers, and nothing but these loads stands beside the products: distances are part of the
// code. Windows over the left and the right edge are as fast as others. Non-goals: dilated windows.
#include <compare>
#include <cstdint>

#include "base/device.h"

namespace planck::jit {

struct TapsCall {
  const float* x = nullptr;  // first tap of the first output and row, perhaps outside the picture
  const float* w = nullptr;  // first weight of the first row
  float* out = nullptr;
  const float* bias = nullptr;      // recipes with a bias
  const float* residual = nullptr;  // recipes with a residual
  int64_t row_step = 0;             // bytes from a row of taps to the next
  int64_t rows = 0;                 // of taps; 0: the sums are 0
  int64_t groups = 1;               // neighbouring ones of `outputs` each
  int64_t ahead = 0;                // recipes that prefetch: bytes from x to what comes to L2
};

enum class TapsFunction : uint8_t { none, relu, hard_swish };

// y scale + shift, two roundings; the numbers by their bits, so that recipes have an order.
struct TapsAffine {
  bool used = false;
  uint32_t scale = 0, shift = 0;
  auto operator<=>(const TapsAffine&) const = default;
};

// Stored: after(function(before(sum over taps of x w + bias + residual))). One sum for each output,
// taps in order, each one fused multiply-add.
using TapsFn = void (*)(const TapsCall*);

struct TapsRecipe {
  Isa isa = Isa::avx2;  // avx2: 8 floats a vector, avx512: 16
  int lanes = 8;        // channels that exist; others are neither read nor written
  int taps = 3;         // of a row, all of them neighbours
  int stride = 1;       // places from output to output
  int outputs = 1;      // of a group
  // Of the places of a group, from its first tap on, those that exist; others are left out.
  int from = 0, to = 0;
  int64_t place_step = 0, tap_step = 0, out_step = 0, residual_step = 0;  // bytes
  bool bias = false, residual = false;
  int prefetches = 0;  // with each row of taps: places of the group, `ahead` of it
  TapsAffine before, after;
  TapsFunction function = TapsFunction::none;
  auto operator<=>(const TapsRecipe&) const = default;
};

// How many outputs of a line are worked on together at most, so that their sums hide the latency of
// FMA and leave room for weights.
constexpr int taps_outputs(Isa isa) { return isa >= Isa::avx512 ? 16 : 8; }
constexpr int taps_floats(Isa isa) { return isa >= Isa::avx512 ? 16 : 8; }
// Longer rows would make too much code.
inline constexpr int kMostTaps = 32;

// Generated at the first request, then kept until the process ends. Any thread may ask. Null where
// the recipe has steps that instructions cannot hold, and where there are too many kernels already.
TapsFn taps_kernel(const TapsRecipe& recipe);

}  // namespace planck::jit
