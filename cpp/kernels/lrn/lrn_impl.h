#pragma once
// One family for every vector width: included after the vector header of an ISA file.
#include "kernels/lrn/lrn.h"
#include "kernels/simd/row_sums.h"

namespace planck {
namespace {

// x / s^beta; most models have 3/4, which is a root and its root.
template <bool kRoots>
PLANCK_INLINE F16 scaled(const LrnArgs& a, F16 x, F16 sum) {
  const F16 s = fma(sum, set1(a.alpha), set1(a.bias));
  if constexpr (!kRoots) return x / pow(s, set1(a.beta));
  const F16 root = sqrt(s);
  return x / (root * sqrt(root));
}

// --- channels are neighbours ------------------------------------------------------------------

template <bool kRoots>
void run_row(const LrnArgs& a, const float* x, float* squares, float* out) {
  float* middle = squares + a.before;
  int64_t c = 0;
  for (; c < a.channels; c += 16) {
    const int64_t lanes = a.channels - c < 16 ? a.channels - c : 16;
    const F16 v = load_lanes(x + c, lanes);
    store_lanes(middle + c, v * v, lanes);
  }
  for (c = 0; c < a.channels; c += 16) {
    const int64_t lanes = a.channels - c < 16 ? a.channels - c : 16;
    F16 sum = load(squares + c);
    for (int64_t k = 1; k <= a.before + a.after; ++k) sum = sum + load(squares + c + k);
    store_lanes(out + c, scaled<kRoots>(a, load_lanes(x + c, lanes), sum), lanes);
  }
}

template <bool kRoots>
void run_rows(const LrnArgs& a, int64_t first, int64_t last, float* squares) {
  // Behind the last channel 16 more, since whole vectors are summed.
  for (int64_t i = 0; i < a.channels + a.before + a.after + 16; ++i) squares[i] = 0;
  for (int64_t row = first; row < last; ++row) {
    run_row<kRoots>(a, a.x + row * a.channels, squares, a.out + row * a.channels);
  }
}

// --- places are neighbours --------------------------------------------------------------------

template <bool kRoots>
void run_places(const LrnArgs& a, const float* x, int64_t lanes, float* out) {
  for (int64_t c = 0; c < a.channels; ++c) {
    const int64_t first = c < a.before ? 0 : c - a.before;
    const int64_t last = c + a.after < a.channels ? c + a.after : a.channels - 1;
    F16 sum = zero16();
    for (int64_t k = first; k <= last; ++k) {
      const F16 v = load_lanes(x + k * a.inner, lanes);
      sum = sum + v * v;
    }
    const F16 v = load_lanes(x + c * a.inner, lanes);
    store_lanes(out + c * a.inner, scaled<kRoots>(a, v, sum), lanes);
  }
}

template <bool kRoots>
void run(const LrnArgs& a, int64_t tile, const Worker& worker) {
  if (a.inner == 1) {
    const int64_t first = tile * a.block;
    const int64_t last = first + a.block < a.outer ? first + a.block : a.outer;
    return run_rows<kRoots>(a, first, last, reinterpret_cast<float*>(worker.scratch));
  }
  const int64_t pieces = (a.inner + a.block - 1) / a.block;
  const int64_t plane = tile / pieces * a.channels * a.inner, first = tile % pieces * a.block;
  const int64_t last = first + a.block < a.inner ? first + a.block : a.inner;
  int64_t i = first;
  for (; i + 16 <= last; i += 16) run_places<kRoots>(a, a.x + plane + i, 16, a.out + plane + i);
  if (i < last) run_places<kRoots>(a, a.x + plane + i, last - i, a.out + plane + i);
}

void run_tile(const LrnArgs& a, int64_t tile, const Worker& worker) {
  if (a.beta == 0.75F) {
    run<true>(a, tile, worker);
  } else {
    run<false>(a, tile, worker);
  }
}

}  // namespace
}  // namespace planck
