#pragma once
// What follows an integer product's sums: who computes it - the kernel itself or a program behind
// it - and where an area of results goes.
#include <cstdint>

#include "kernels/qmatmul/rows.h"

namespace planck {

// Rows and columns of C.
struct QmatmulArea {
  int64_t row, column, rows, columns;
};

// Of one item of the batch.
struct QmatmulEnds {
  float* c;
  uint8_t* c_bytes;
  const float* residual;
  EltOperand operands[kEltOperands];
  float* stage = nullptr;  // floats of a chunk, where a program makes bytes of them
};
QmatmulEnds ends_of(const QmatmulArgs& args);  // of the first item
void move_ends(const QmatmulArgs& args, const QmatmulBatch& axis, int64_t at, QmatmulEnds& ends);

// Fills the plan; returns whether the kernel stores bytes.
bool choose_epilogue(const QmatmulRow& row, QmatmulArgs& args);
// What a call for the area reads and writes behind its sums.
void set_epilogue(const QmatmulArgs& args, const QmatmulEnds& ends, const QmatmulArea& area,
                  jit::QgemmCall& call);
// On the floats that the kernels have left, if the kernels do not end in the program.
void run_program(const QmatmulArgs& args, const QmatmulEnds& ends, const QmatmulArea& area);

}  // namespace planck
