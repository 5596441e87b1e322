#pragma once
// Element-wise ops as instructions of tile programs.
#include <span>

#include "base/tile_program.h"
#include "ir/graph.h"

namespace planck {

// Writes the op's formula behind the results `in` (-1: absent); the last instruction is the result.
using Formula = void (*)(TileProgram& p, const Node& n, std::span<const int16_t> in);

// Nothing for an op that is no arithmetic on floats, truths and quantized bytes, whatever its
// other types.
Formula formula_of(const Graph& g, const Node& n);

}  // namespace planck
