#pragma once
#include <string>
#include <vector>

#include "kernels/jit/block.h"
#include "kernels/matmul/rows.h"
#include "kernels/recurrent/recurrent.h"

namespace planck {

struct RecurrentArgs;

// A phase of a step of time: what a job does. step kAllSteps: the whole sequence.
struct RecurrentMoment {
  static constexpr int64_t kAllSteps = -1;
  const RecurrentArgs* args;
  int64_t step;
  int phase;
};

// Shapes and strides must not change after plan_recurrent, nor may the args move; pointers may,
// between runs. Strides count floats; `side` leads from one direction to the other.
struct RecurrentArgs {
  struct State {
    const float* first = nullptr;
    int64_t side = 0, row = 0;
  };
  struct Result {
    float* first = nullptr;
    int64_t side = 0, row = 0, step = 0;
  };
  RecurrentKind kind = RecurrentKind::lstm;
  int64_t steps = 0, batch = 0, hidden = 0, sides = 1;
  bool reverse = false;  // the first side goes from the last step to the first, as the second does
  const float* x = nullptr;  // sums that come of the input: side behind side in its columns
  int64_t x_step = 0, x_row = 0;
  const float* w = nullptr;     // [hidden, sides * side_weights()], packed by pack_b of the row
  const float* more = nullptr;  // [sides][more_floats()], or none
  State h, c;                   // before the first step; none: 0
  const int32_t* lengths = nullptr;  // of each sample; none: all steps
  Result y, last_h, last_c;          // each of them perhaps none
  float* states = nullptr;           // [form.states][sides][batch][pitch()]

  struct Plan {  // filled by plan_recurrent
    jit::GemmTile tile;
    RecurrentCellFn cells[kRecurrentPhases] = {};
    // Of the cut: blocks and rows of a tile of the team, and of a product inside.
    int64_t tile_blocks[kRecurrentPhases] = {}, tile_rows = 0, row_tiles = 0;
    int64_t group_blocks[kRecurrentPhases] = {}, group_rows = 0;
    int64_t scratch_bytes = 0;
    std::vector<RecurrentMoment> moments;
  } plan;
};

// Whether kernels of the row take the packed weights.
constexpr bool takes_recurrent(const MatmulRow& row) {
  return row.lanes == Lanes::columns && kRecurrentPanel % row.tile_n == 0;
}

// Jobs that have to run in order; the row is that of the products.
std::vector<Job> plan_recurrent(const MatmulRow& row, RecurrentArgs& args);

}  // namespace planck
