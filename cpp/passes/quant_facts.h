#pragma once
// The grids on which quantised values lie: real = scale * (q - zero point). A DequantizeLinear of a
// constant becomes a float constant that knows its grid (Value::quant), so that fusions match as in
// a float model; whoever makes a constant from such a one carries the grid along. For the builder
// as well.
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "ir/graph.h"
#include "ir/patch.h"

namespace planck {

// Scales and zero points of a QuantizeLinear or DequantizeLinear, its axis not negative; or why
// they are no build-time fact.
std::variant<QParams, Refusal> grid_of(const Graph& g, const Node& n);

// The grid of a value that a DequantizeLinear with constant parameters makes, or of a constant that
// knows it; null for any other value.
QuantFact quant_of(const Graph& g, ValueId id);

// Whether floats of the type tell the integers of the grid apart: rne(x / scale) gives q back. The
// grid of other constants, of wide integers and of float8 is not kept.
bool gives_back(DType dtype, const QParams& q);

// The integers of a constant on its grid, in the grid's type: rne(x / scale) + zero point.
// InternalError for a number that lies on no place of it.
Tensor integers_on(const Tensor& x, const QParams& q);

// Why a product whose input 0 a DequantizeLinear makes cannot take its integers, as far as the
// graph tells; empty if it can: a planck.Linear, planck.Convolution or ConvTranspose (of one group)
// of bytes with one scale (perhaps of the run) and constant weights on symmetric
// bytes, with one scale or one for each output channel.
std::string why_no_integer_product(const Graph& g, const Node& n);

// The result of a DequantizeLinear of constant bytes to f32, as its reference has it, in the memory
// of the result alone; nothing for other nodes.
std::optional<Tensor> dequantised(const Graph& g, const Node& n);

// --- grids of constants made from constants; null where there is none -------------------------
// Of output i of a node that only moves what its inputs hold: Transpose, Reshape, Slice, Concat..
// Also of a Cast, and of the DequantizeLinear itself. All inputs are constant.
QuantFact carried(const Graph& g, const Node& n, size_t output);
QuantFact transposed_grid(const QuantFact& q);  // of a matrix
// Of `after`, which is `before` times one factor (or one for each place along `axis`).
QuantFact scaled_grid(const Tensor& before, const QuantFact& q, const Tensor& after, int64_t axis,
                      std::span<const double> factors);
// Of matrices side by side: [K,N_i], each with scales for its columns or one scale.
QuantFact joined_columns(std::span<const Tensor> parts, std::span<const QuantFact> grids);

}  // namespace planck
