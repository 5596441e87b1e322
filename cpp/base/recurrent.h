#pragma once
// Where the numbers of a recurrent layer lie: what the model's weights become when a plan is built,
// as its kernels read them. Hidden units come in blocks, whose gates lie side by side: a vector of
// each. Directions ("sides") lie one behind the other.
#include <cstdint>

namespace planck {

// What becomes of the sums of the gates, with sigmoid as f, tanh as g. gru: the reset gate
// multiplies the state; gru_linear: what comes of the state (linear_before_reset).
enum class RecurrentKind : uint8_t { rnn_tanh, rnn_relu, gru, gru_linear, lstm };

inline constexpr int64_t kRecurrentUnits = 16;  // of a block
inline constexpr int64_t kRecurrentPanel = 96;  // a multiple of the columns of every kernel's panel
inline constexpr int kRecurrentPhases = 2;

// A step of time has a phase for each product that needs what came of the one before.
struct RecurrentForm {
  int phases = 1;
  int gates[kRecurrentPhases] = {};  // of a phase
  int states = 0;  // that outlive a phase: h twice (before, after), then c, or z and r * h
  int more = 0;    // vectors of a block beside the sums: the peepholes i, o, f, or the bias in r

  int all_gates() const { return gates[0] + gates[1]; }
};
constexpr RecurrentForm recurrent_form(RecurrentKind kind) {
  switch (kind) {
    case RecurrentKind::gru:
      return {2, {2, 1}, 4, 0};
    case RecurrentKind::gru_linear:
      return {1, {3, 0}, 2, 1};
    case RecurrentKind::lstm:
      return {1, {4, 0}, 3, 3};
    default:
      return {1, {1, 0}, 2, 0};
  }
}

struct RecurrentSizes {
  RecurrentForm form;
  int64_t hidden, blocks;

  RecurrentSizes(RecurrentKind kind, int64_t hidden)
      : form(recurrent_form(kind)),
        hidden(hidden),
        blocks((hidden + kRecurrentUnits - 1) / kRecurrentUnits) {}

  // Units with those that fill the last block.
  int64_t units() const { return blocks * kRecurrentUnits; }
  // Columns of a phase: [blocks][gates][units of a block].
  int64_t columns(int phase) const { return units() * form.gates[phase]; }
  // Of what comes of the input, for one side: phase behind phase.
  int64_t side_columns() const { return units() * form.all_gates(); }
  // Of the weights of the state: a phase begins with a panel.
  int64_t weight_columns(int phase) const {
    return (columns(phase) + kRecurrentPanel - 1) / kRecurrentPanel * kRecurrentPanel;
  }
  int64_t side_weights() const { return weight_columns(0) + weight_columns(1); }
  // Floats from one state to the next. Rows a multiple of 1 KiB apart would fall into few cache
  // sets.
  int64_t pitch() const { return units() % 256 == 0 ? units() + kRecurrentUnits : units(); }
  int64_t more_floats() const { return units() * form.more; }

  // Where a row of the model's weights [sides, gates * hidden, ..] is a column: of what comes of
  // the input, and of the weights of the state.
  int64_t input_column(int64_t side, int64_t row) const {
    const Column c = column(row);
    return side * side_columns() + (c.phase == 1 ? columns(0) : 0) + c.at;
  }
  int64_t state_column(int64_t side, int64_t row) const {
    const Column c = column(row);
    return side * side_weights() + (c.phase == 1 ? weight_columns(0) : 0) + c.at;
  }

 private:
  struct Column {
    int phase;
    int64_t at;  // among those of the phase
  };
  Column column(int64_t row) const {
    const int64_t gate = row / hidden, unit = row % hidden;
    const int phase = gate < form.gates[0] ? 0 : 1;
    const int64_t behind = phase == 1 ? gate - form.gates[0] : gate;
    const int64_t block = unit / kRecurrentUnits;
    return {phase, (block * form.gates[phase] + behind) * kRecurrentUnits + unit % kRecurrentUnits};
  }
};

}  // namespace planck
