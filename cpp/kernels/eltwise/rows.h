#pragma once
#include <optional>
#include <span>

#include "base/dtype.h"
#include "base/tile_program.h"
#include "kernels/eltwise/eltwise.h"
#include "kernels/simd/row.h"

namespace planck {

// Checks and compacts a program. Throws InternalError for a malformed one (an index out of range),
// LimitError for one with more operands, instructions or live values than EltProgram holds.
// A pow with a constant exponent of 2, 3, 0.5, -1, 0 or 1 becomes exact arithmetic.
EltProgram compile(const TileProgram& program);

struct EltwiseRow : KernelRow<EltwiseArgs> {
  EltStripFn strip;  // the same arithmetic over one strip: the epilogue of a product
};

std::span<const EltwiseRow> eltwise_rows();
inline const EltwiseRow& eltwise_row(std::string_view name) {
  return row_of_name(eltwise_rows(), name);
}

// Whether the program is this one function of operand 0, which some kernels know.
bool is_only(const EltProgram& program, EltOp op);

// What runs programs as epilogues on that level: the arithmetic is the same on every one.
EltStripFn eltwise_strip(Isa isa);

// How programs read and write the type; nothing for one that they do not know.
std::optional<EltType> elt_type(DType dtype);

// One operand and its shape, which must broadcast to the shape of the output. Any strides are read
// as they are; neighbours along the last axis run fast.
struct EltwiseInput {
  const void* data;
  std::span<const int64_t> dims;
  EltType type = EltType::f32;
  std::span<const int64_t> strides = {};  // in elements, one for each of dims; empty: dense
};

// Fills the arguments of a step whose output has the given shape (rank 32 at most). Inputs stand
// in the order of the program's operands. Throws InternalError where a shape does not broadcast.
EltwiseArgs make_eltwise_args(const EltProgram& program, std::span<const EltwiseInput> inputs,
                              void* out, std::span<const int64_t> out_dims,
                              EltType out_type = EltType::f32);

}  // namespace planck
