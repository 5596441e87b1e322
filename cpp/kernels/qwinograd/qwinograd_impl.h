#pragma once
// The transforms for every kind of vector: included behind the types of an ISA file. Words are
// kChannels channels of 16 bits, Sums kColumns columns of 32 bits; + and - wrap.
#include "kernels/qwinograd/qwinograd.h"

namespace planck {
namespace {

#define PLANCK_INLINE inline __attribute__((always_inline))

// B^T d.
template <int kOut, class Words>
PLANCK_INLINE void transform_in(const Words* d, int64_t step, Words* v) {
  const Words d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
  if constexpr (kOut == 2) {
    v[0] = d0 - d2;
    v[1] = d1 + d2;
    v[2] = d2 - d1;
    v[3] = d1 - d3;
  } else {
    const Words d4 = d[4 * step], d5 = d[5 * step];
    const Words even = d4 - shifted<2>(d2), odd = d3 - shifted<2>(d1);
    const Words near = d4 - d2, half = shifted<1>(d3 - d1);
    v[0] = shifted<2>(d0 - d2) + near;
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = near + half;
    v[4] = near - half;
    v[5] = (d5 - d3) - (half + half);
  }
}

// Rows of A^T m with G's scales taken back: of 4 outputs, 24, 12, 6 and 6 times them.
template <int kOut, class Sums>
PLANCK_INLINE void transform_out(const Sums* m, int64_t step, Sums* y) {
  const Sums m0 = m[0], m1 = m[step], m2 = m[2 * step], m3 = m[3 * step];
  if constexpr (kOut == 2) {
    y[0] = (m0 + m1) + m2;
    y[1] = (m1 - m2) - m3;
  } else {
    const Sums m4 = m[4 * step], m5 = m[5 * step];
    const Sums sum1 = m1 + m2, sum2 = m3 + m4, dif1 = m1 - m2, dif2 = m3 - m4;
    const Sums twice5 = m5 + m5;
    y[0] = shifted<2>(m0 + sum1) + ((m0 + m0) + sum2);
    y[1] = (dif1 + dif1) + dif2;
    y[2] = sum1 + sum2;
    const Sums half = dif2 + (twice5 + m5);
    y[3] = dif1 + (half + half);
  }
}

// Powers of two in the factors of outputs along an axis.
constexpr int power_of(int out, int i) { return out == 2 ? 1 : i == 0 ? 3 : i == 1 ? 2 : 1; }
constexpr uint32_t kNinth = 954437177;  // times 9 is 1 modulo 2^32

template <int kOut, int kPower, class Sums>
PLANCK_INLINE Sums without_factor(const Sums& x) {
  if constexpr (kOut == 2) return shifted_down<kPower>(x);
  return shifted_down<kPower>(times(x, kNinth));
}

// `load(place)` brings the words of a place.
template <int kOut, class Words>
PLANCK_INLINE void input_lanes(const auto& load, int16_t* v, int64_t point_step) {
  constexpr int kIn = kOut + 2;
  Words rows[kIn * kIn];
#pragma GCC unroll 6
  for (int y = 0; y < kIn; ++y) {
    Words d[kIn];
#pragma GCC unroll 6
    for (int x = 0; x < kIn; ++x) d[x] = load(y * kIn + x);
    transform_in<kOut>(d, 1, rows + y * kIn);
  }
#pragma GCC unroll 6
  for (int x = 0; x < kIn; ++x) {
    Words column[kIn];
    transform_in<kOut>(rows + x, kIn, column);
#pragma GCC unroll 6
    for (int y = 0; y < kIn; ++y) store(v + (y * kIn + x) * point_step, column[y]);
  }
}

template <int kOut, class Words>
PLANCK_INLINE void input_of(const QwinogradInput& given) {
  const QwinogradInput in = given;  // stores of vectors may alias what is given
  constexpr int kPoints = (kOut + 2) * (kOut + 2);
  constexpr int64_t kLanes = Words::kChannels;
  const uint8_t* place[kPoints];
  for (int i = 0; i < kPoints; ++i) place[i] = in.place[i];
  int64_t channel = 0;
  for (; channel + kLanes <= in.channels; channel += kLanes) {
    const auto load = [&](int i) { return Words::load(place[i] + channel); };
    input_lanes<kOut, Words>(load, in.v + channel, in.point_step);
  }
  if (channel == in.channels) return;
  if (in.channels >= kLanes) {  // the last whole vector, some of it once more
    channel = in.channels - kLanes;
    const auto load = [&](int i) { return Words::load(place[i] + channel); };
    return input_lanes<kOut, Words>(load, in.v + channel, in.point_step);
  }
  const auto load = [&](int i) { return Words::load_some(place[i], in.channels); };
  input_lanes<kOut, Words>(load, in.v, in.point_step);
}

// One row of outputs behind the other, so that few vectors are alive.
template <int kOut, int kRow, class Sums>
PLANCK_INLINE void output_row(const QwinogradOutput& o, const Sums* rows, int64_t column) {
  if constexpr (kRow < kOut) {
    if (kRow >= o.rows) return;
    Sums y[kOut];
    transform_out<kOut>(rows + kRow * (kOut + 2), 1, y);
    int32_t* to = o.sums + kRow * o.row_step + column;
    constexpr int kPower = power_of(kOut, kRow);
    store(to, without_factor<kOut, kPower + power_of(kOut, 0)>(y[0]));
    if (o.columns > 1) {
      store(to + kQwinogradLanes, without_factor<kOut, kPower + power_of(kOut, 1)>(y[1]));
    }
    for (int i = 2; i < kOut && i < o.columns; ++i) {
      store(to + i * kQwinogradLanes, without_factor<kOut, kPower + power_of(kOut, 2)>(y[i]));
    }
    output_row<kOut, kRow + 1>(o, rows, column);
  }
}

template <int kOut, class Sums>
PLANCK_INLINE void output_of(const QwinogradOutput& given) {
  const QwinogradOutput o = given;
  constexpr int kIn = kOut + 2;
  for (int64_t at = 0; at < kQwinogradLanes; at += Sums::kColumns) {
    Sums rows[kOut * kIn];
#pragma GCC unroll 6
    for (int x = 0; x < kIn; ++x) {
      Sums m[kIn], column[kOut];
#pragma GCC unroll 6
      for (int i = 0; i < kIn; ++i) m[i] = Sums::load(o.m + (i * kIn + x) * o.point_step + at);
      transform_out<kOut>(m, 1, column);
#pragma GCC unroll 4
      for (int i = 0; i < kOut; ++i) rows[i * kIn + x] = column[i];
    }
    output_row<kOut, 0>(o, rows, at);
  }
}

}  // namespace
}  // namespace planck
