#pragma once
// What a recurrent layer does behind its products: from the sums of the gates of one sample to its
// state, for blocks of hidden units (base/recurrent.h). Same bits on every ISA.
#include <cstdint>

#include "base/recurrent.h"

namespace planck {

// Blocks side by side. x and r: sums that come of the input and of the state before, [blocks][gates
// of the phase][16]; states that are written have room for whole blocks, others for `units`.
struct RecurrentCell {
  const float *x, *r;          // r: none where there is no state before
  const float *h, *c;          // before; none: 0
  const float* more;           // as RecurrentForm says, [blocks][..][16], or none
  float *h_out, *c_out;        // of gru in phase 0: r * h, z; in phase 1 c_out is that z
  float *y, *last_h, *last_c;  // the same for others, or none
  int64_t units;
  bool ended;  // this step is behind the end of the sample: its state stays, y is 0
};
using RecurrentCellFn = void (*)(const RecurrentCell&);

// A function for each kind, and the first phase of gru.
#define PLANCK_RECURRENT(name, isa)                  \
  void name##_rnn_tanh(const RecurrentCell& cell);   \
  void name##_rnn_relu(const RecurrentCell& cell);   \
  void name##_gru_gates(const RecurrentCell& cell);  \
  void name##_gru(const RecurrentCell& cell);        \
  void name##_gru_linear(const RecurrentCell& cell); \
  void name##_lstm(const RecurrentCell& cell);
#include "kernels/recurrent/kernels.inc"
#undef PLANCK_RECURRENT

}  // namespace planck
