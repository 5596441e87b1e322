#pragma once
// Questions that several passes ask about a graph.
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/patch.h"
#include "ir/pattern.h"

namespace planck {

// The node that makes the value as its first output, if it is such an op; else null.
const Node* made_by(const Graph& g, ValueId id, std::string_view op);
// The node that reads the value, if there is exactly one use and it is no graph output; else null.
const Node* only_reader(const Graph& g, ValueId id);
// Whether somebody reads the node's first output.
bool has_result(const Node& n);
// The operand of a two-input node that is not `known`; kAbsent if both are.
ValueId other_input(const Node& n, ValueId known);

// Whether the op's output has the broadcast shape of its inputs, element by element.
bool maps_elements(const Node& n);
// The only input of such a node that is not constant, where the result has its shape;
// else kAbsent.
ValueId variable_of_map(const Graph& g, const Node& n);

const std::vector<Dim>& dims_of(const Graph& g, ValueId id);
DType dtype_of(const Graph& g, ValueId id);
bool is_constant(const Graph& g, ValueId id);
// Same extents on every axis, by canonical form.
bool same_dims(std::span<const Dim> a, std::span<const Dim> b);
// [D] or [1,..,1,D].
bool is_row_of(std::span<const Dim> dims, const Dim& width);

// Whether every symbol of `dims` has a value once the graph's inputs and `data` are there.
bool bound_at(const Graph& g, ValueId data, std::span<const Dim> dims);

// Axes as an optional input (reductions, Squeeze): not negative, sorted. Nothing if unknown or
// absent.
std::optional<std::vector<int64_t>> axes_input(const Graph& g, ValueId axes, int64_t rank);
// Whether the reduction keeps its rank and goes over exactly this axis.
bool reduces_only(const Graph& g, const Node& n, int64_t axis, int64_t keepdims);

// perm of a Transpose, written out where it is left away.
std::vector<int64_t> perm_of(const Graph& g, const Node& transpose);
bool is_perm(const Graph& g, const Node* transpose, std::initializer_list<int64_t> perm);

// --- epilogues of products (planck.Linear, planck.Convolution: input 3 is the residual) ----------
// An element-wise function that kernels apply to a product as it is stored, of `product`.
Pat activation_of_product(const Pat& product);
std::string activation_name(const Node& n);  // as ops/activation.h has it
// Why the product cannot take the other operand of the Add as its residual, or nothing.
std::string why_no_residual(const Graph& g, const Node& product, const Node& add);
// The product's inputs with the other operand of the Add as residual.
std::vector<ValueId> with_residual(const Node& product, const Node& add);

// --- operands of attention -------------------------------------------------------------------
struct ScaledValue {
  ValueId value;
  double scale = 1;
};
// What a multiplication or division by one number reads, the number taken into the scale; the value
// itself where there is none.
ScaledValue unscaled(const Graph& g, ScaledValue from);

// --- constants made from constants ----------------------------------------------------------
Tensor transposed_matrix(const Tensor& matrix);
Tensor scaled(const Tensor& t, double factor);
Tensor filled(DType dtype, Shape shape, double value);
// Matrices [K,N_i] or rows [N_i] side by side.
Tensor side_by_side(std::span<const Tensor> parts);

// The value as [width]: itself, or a constant [1,..,1,width] with other extents, or one constant
// number for all of them. kAbsent if it is none of these.
ValueId as_row(Patch& patch, const Graph& g, ValueId id, int64_t width);

}  // namespace planck
