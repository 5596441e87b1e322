#pragma once
#include "ops/declare.h"

namespace planck::ops {

// Inputs: x [steps, batch, input], w [directions, gates * hidden, input], r [directions,
// gates * hidden, hidden], bias [directions, 2 * gates * hidden] of w, then of r; the steps of each
// sample, what the state begins with [directions, batch, hidden]; LSTM also the cell and the
// peepholes [directions, 3 * hidden] of the gates i, o, f.
// Outputs, each of them optional: the states of all steps [steps, directions, batch, hidden] (zeros
// behind the end of a sample), the last ones [directions, batch, hidden]; LSTM: the last cells.
// layout 1 has the batch in front everywhere. clip bounds the sums of the gates (0: nothing), and
// not the cell, as ONNX Runtime reads it.
#define PLANCK_RECURRENT(Op, inputs, outputs, more)                 \
  struct Op {                                                       \
    PLANCK_OP_FACTS(Op, reduction, 3, inputs, 0, outputs)           \
    std::vector<double> activation_alpha, activation_beta;          \
    std::vector<std::string> activations;                           \
    double clip = 0;                                                \
    std::string direction = "forward"; /* reverse, bidirectional */ \
    int64_t hidden_size = 0;           /* 0: that of r */           \
    int64_t more = 0;                                               \
    int64_t layout = 0;                                             \
    static void fields(auto& self, auto&& visit) {                  \
      visit("activation_alpha", self.activation_alpha);             \
      visit("activation_beta", self.activation_beta);               \
      visit("activations", self.activations);                       \
      visit("clip", self.clip);                                     \
      visit("direction", self.direction);                           \
      visit("hidden_size", self.hidden_size);                       \
      visit(#more, self.more);                                      \
      visit("layout", self.layout);                                 \
    }                                                               \
  };
// linear_before_reset 1: the reset gate multiplies what r gives, not what goes into r.
PLANCK_RECURRENT(GRU, 6, 2, linear_before_reset)
// input_forget 1: the gate f is 1 - i.
PLANCK_RECURRENT(LSTM, 8, 3, input_forget)
#undef PLANCK_RECURRENT

struct RNN {
  PLANCK_OP_FACTS(RNN, reduction, 3, 6, 0, 2)
  std::vector<double> activation_alpha, activation_beta;
  std::vector<std::string> activations;
  double clip = 0;
  std::string direction = "forward";
  int64_t hidden_size = 0;
  int64_t layout = 0;
  static void fields(auto& self, auto&& visit) {
    visit("activation_alpha", self.activation_alpha);
    visit("activation_beta", self.activation_beta);
    visit("activations", self.activations);
    visit("clip", self.clip);
    visit("direction", self.direction);
    visit("hidden_size", self.hidden_size);
    visit("layout", self.layout);
  }
};

}  // namespace planck::ops
