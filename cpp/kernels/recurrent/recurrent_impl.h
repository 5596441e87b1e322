#pragma once
#include "kernels/recurrent/recurrent.h"

namespace planck {
namespace {

// 1 / (1 + e^-x), 3 ulps at most; 0 below -87.7.
PLANCK_INLINE F16 gate_sigmoid(F16 x) {
  const F16 e = exp_flush(neg(abs(x)));
  return select(x < zero16(), e, set1(1.0f)) / (set1(1.0f) + e);
}

// With m = e^(-2 |x|) - 1: -m / (2 + m). Where the power of two in m is 1, m is the polynomial
// itself, so that small results are as exact as large ones: 3 ulps at most.
PLANCK_INLINE F16 gate_tanh(F16 x) {
  const F16 twice = max2(set1(-88.0f), set1(-2.0f) * abs(x));  // keeps NaN
  const F16 shifted = fma(twice, set1(kLog2E), set1(kRound));
  const F16 n = shifted - set1(kRound);
  const F16 r = fnma(n, set1(kLn2Rest), fnma(n, set1(kLn2), twice));
  const F16 tail = fma(polynomial(kExpTail, r), r * r, r);
  const F16 scale = floats(shift_left<23>(bits(shifted)) + set1i(0x3F800000));
  const F16 m = fma(tail, scale, scale - set1(1.0f));
  return with_sign(abs(m) / (set1(2.0f) + m), x);
}

// One block of a cell: its vectors by gate.
struct Block {
  const RecurrentCell& cell;
  int64_t block, lanes;  // lanes that exist

  int64_t unit() const { return block * kRecurrentUnits; }
  template <int kGates>
  PLANCK_INLINE F16 from_x(int gate) const {
    return load(cell.x + (block * kGates + gate) * kRecurrentUnits);
  }
  template <int kGates>
  PLANCK_INLINE F16 from_h(int gate) const {
    if (cell.r == nullptr) return zero16();
    return load(cell.r + (block * kGates + gate) * kRecurrentUnits);
  }
  template <int kGates>
  PLANCK_INLINE F16 sum(int gate) const {
    return from_x<kGates>(gate) + from_h<kGates>(gate);
  }
  template <int kVectors>
  PLANCK_INLINE F16 more(int i) const {
    return load(cell.more + (block * kVectors + i) * kRecurrentUnits);
  }
  PLANCK_INLINE F16 before(const float* state) const {
    return state == nullptr ? zero16() : load_first(state + unit(), lanes);
  }
  PLANCK_INLINE F16 h() const { return before(cell.h); }
  PLANCK_INLINE F16 c() const { return before(cell.c); }
  PLANCK_INLINE void put(float* to, F16 value) const {
    if (to != nullptr) store_first(to + unit(), value, lanes);
  }
  PLANCK_INLINE void put_h(F16 h, F16 y) const {
    store(cell.h_out + unit(), h);
    put(cell.y, y);
    put(cell.last_h, h);
  }
  PLANCK_INLINE void put_c(F16 c) const {
    store(cell.c_out + unit(), c);
    put(cell.last_c, c);
  }
};

template <class Body>
PLANCK_INLINE void for_blocks(const RecurrentCell& cell, const Body& body) {
  for (int64_t at = 0; at < cell.units; at += kRecurrentUnits) {
    const int64_t left = cell.units - at;
    body(Block{cell, at / kRecurrentUnits, left < kRecurrentUnits ? left : kRecurrentUnits});
  }
}

// A state that stays, and how many there are of it.
PLANCK_INLINE bool stays(const RecurrentCell& cell, bool cells) {
  if (!cell.ended) return false;
  for_blocks(
      cell, [&](const Block& b) __attribute__((always_inline)) {
        b.put_h(b.h(), zero16());
        if (cells) b.put_c(b.c());
      });
  return true;
}

void rnn_tanh(const RecurrentCell& cell) {
  if (stays(cell, false)) return;
  for_blocks(
      cell, [&](const Block& b) __attribute__((always_inline)) {
        const F16 h = gate_tanh(b.sum<1>(0));
        b.put_h(h, h);
      });
}

void rnn_relu(const RecurrentCell& cell) {
  if (stays(cell, false)) return;
  for_blocks(
      cell, [&](const Block& b) __attribute__((always_inline)) {
        const F16 h = relu(b.sum<1>(0));
        b.put_h(h, h);
      });
}

// Gates z and r; what the state counts for in the next phase.
void gru_gates(const RecurrentCell& cell) {
  for_blocks(
      cell, [&](const Block& b) __attribute__((always_inline)) {
        store(cell.c_out + b.unit(), gate_sigmoid(b.sum<2>(0)));
        store(cell.h_out + b.unit(), gate_sigmoid(b.sum<2>(1)) * b.h());
      });
}

PLANCK_INLINE void put_mixed(const Block& b, F16 update, F16 fresh) {
  const F16 h = fma(update, b.h(), (set1(1.0f) - update) * fresh);
  b.put_h(h, h);
}

void gru(const RecurrentCell& cell) {
  if (stays(cell, false)) return;
  for_blocks(
      cell, [&](const Block& b) __attribute__((always_inline)) {
        put_mixed(b, load(cell.c_out + b.unit()), gate_tanh(b.sum<1>(0)));
      });
}

void gru_linear(const RecurrentCell& cell) {
  if (stays(cell, false)) return;
  for_blocks(
      cell, [&](const Block& b) __attribute__((always_inline)) {
        const F16 update = gate_sigmoid(b.sum<3>(0)), reset = gate_sigmoid(b.sum<3>(1));
        const F16 state = cell.more == nullptr ? b.from_h<3>(2) : b.from_h<3>(2) + b.more<1>(0);
        put_mixed(b, update, gate_tanh(fma(reset, state, b.from_x<3>(2))));
      });
}

// Peepholes of the gates i, o, f; o looks at the new cell.
template <bool kPeepholes>
PLANCK_INLINE void lstm_blocks(const RecurrentCell& cell) {
  for_blocks(
      cell, [&](const Block& b) __attribute__((always_inline)) {
        const F16 before = b.c();
        const auto gate = [&](int i, F16 c) __attribute__((always_inline)) {
          const F16 sum = b.sum<4>(i);
          return gate_sigmoid(kPeepholes ? fma(b.more<3>(i), c, sum) : sum);
        };
        const F16 in = gate(0, before), keep = gate(2, before);
        const F16 c = fma(keep, before, in * gate_tanh(b.sum<4>(3)));
        const F16 h = gate(1, c) * gate_tanh(c);
        b.put_c(c);
        b.put_h(h, h);
      });
}

void lstm(const RecurrentCell& cell) {
  if (stays(cell, true)) return;
  if (cell.more == nullptr) {
    lstm_blocks<false>(cell);
  } else {
    lstm_blocks<true>(cell);
  }
}

}  // namespace
}  // namespace planck

#define PLANCK_RECURRENT_CELLS(name)                                      \
  void name##_rnn_tanh(const RecurrentCell& cell) { rnn_tanh(cell); }     \
  void name##_rnn_relu(const RecurrentCell& cell) { rnn_relu(cell); }     \
  void name##_gru_gates(const RecurrentCell& cell) { gru_gates(cell); }   \
  void name##_gru(const RecurrentCell& cell) { gru(cell); }               \
  void name##_gru_linear(const RecurrentCell& cell) { gru_linear(cell); } \
  void name##_lstm(const RecurrentCell& cell) { lstm(cell); }
