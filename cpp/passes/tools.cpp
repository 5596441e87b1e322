#include "passes/tools.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/checked.h"
#include "base/guard.h"
#include "ops/reduce.h"
#include "ops/transpose.h"
#include "ops/unary.h"

namespace planck {

const Node* made_by(const Graph& g, ValueId id, std::string_view op) {
  const Node* n = g.producer(id);
  return n != nullptr && n->outputs[0] == id && n->is(op) ? n : nullptr;
}

const Node* only_reader(const Graph& g, ValueId id) {
  const auto& readers = g.value(id).readers;
  return readers.size() == 1 && !g.is_output(id) ? &g.node(readers[0]) : nullptr;
}

bool has_result(const Node& n) { return !n.outputs.empty() && n.outputs[0] != kAbsent; }

ValueId other_input(const Node& n, ValueId known) {
  if (n.input(0) != known) return n.input(0);
  return n.input(1) != known ? n.input(1) : kAbsent;
}

bool maps_elements(const Node& n) {
  constexpr std::string_view kOps[] = {
      "Abs",       "Add",     "Clip", "Cos",  "Div", "Erf",  "Exp",         "Gelu", "HardSigmoid",
      "HardSwish", "Log",     "Max",  "Min",  "Mul", "Neg",  "PRelu",       "Pow",  "Reciprocal",
      "Relu",      "Sigmoid", "Sin",  "Sqrt", "Sub", "Tanh", "planck.Swish"};
  return std::ranges::find(kOps, n.op->text()) != std::end(kOps);
}

ValueId variable_of_map(const Graph& g, const Node& n) {
  if (!maps_elements(n) || !has_result(n)) return kAbsent;
  ValueId variable = kAbsent;
  for (const ValueId v : n.inputs) {
    if (v == kAbsent || is_constant(g, v) || v == variable) continue;
    if (variable != kAbsent) return kAbsent;
    variable = v;
  }
  const bool found = variable != kAbsent &&
                     same_dims(dims_of(g, variable), dims_of(g, n.outputs[0])) &&
                     dtype_of(g, variable) == dtype_of(g, n.outputs[0]);
  return found ? variable : kAbsent;
}

const std::vector<Dim>& dims_of(const Graph& g, ValueId id) { return g.value(id).type().dims; }
DType dtype_of(const Graph& g, ValueId id) { return g.value(id).type().dtype; }
bool is_constant(const Graph& g, ValueId id) { return id != kAbsent && g.value(id).is_constant(); }

bool same_dims(std::span<const Dim> a, std::span<const Dim> b) { return std::ranges::equal(a, b); }

bool is_row_of(std::span<const Dim> dims, const Dim& width) {
  if (dims.empty() || dims.back() != width) return false;
  return std::ranges::all_of(dims.first(dims.size() - 1), [](const Dim& d) { return d == Dim(1); });
}

namespace {

bool mentions(const std::vector<Dim>& dims, const std::string& symbol) {
  return std::ranges::any_of(dims, [&](const Dim& d) {
    if (d.is_constant()) return false;
    const std::vector<std::string> symbols = d.symbols();
    return std::ranges::find(symbols, symbol) != symbols.end();
  });
}

bool is_bound(const Graph& g, ValueId data, const std::string& symbol) {
  if (mentions(dims_of(g, data), symbol)) return true;
  return std::ranges::any_of(g.inputs, [&](ValueId v) { return mentions(dims_of(g, v), symbol); });
}

}  // namespace

bool bound_at(const Graph& g, ValueId data, std::span<const Dim> dims) {
  return std::ranges::all_of(dims, [&](const Dim& d) {
    if (d.is_constant()) return true;
    const std::vector<std::string> symbols = d.symbols();
    return std::ranges::all_of(symbols, [&](const std::string& s) { return is_bound(g, data, s); });
  });
}

std::optional<std::vector<int64_t>> axes_input(const Graph& g, ValueId axes, int64_t rank) {
  if (axes == kAbsent) return std::nullopt;
  const auto dims = g.value(axes).fact.dims();
  if (!dims) return std::nullopt;
  std::vector<int64_t> out;
  for (const Dim& d : *dims) {
    if (!d.is_constant()) return std::nullopt;
    out.push_back(checked_axis(d.constant(), rank));
  }
  std::ranges::sort(out);
  return out;
}

bool reduces_only(const Graph& g, const Node& n, int64_t axis, int64_t keepdims) {
  const int64_t rank = g.value(n.inputs[0]).type().rank();
  if (n.as<ops::ReduceMean>().keepdims != keepdims || rank == 0)
    return false;  // same fields in all
  auto axes = axes_input(g, n.input(1), rank);
  if (!axes && n.input(1) == kAbsent && rank == 1) axes = {{0}};  // all axes: there is only one
  return axes && *axes == std::vector{checked_axis(axis, rank)};
}

std::vector<int64_t> perm_of(const Graph& g, const Node& transpose) {
  std::vector<int64_t> perm = transpose.as<ops::Transpose>().perm;
  const size_t rank = dims_of(g, transpose.inputs[0]).size();
  if (perm.empty()) {
    perm.resize(rank);
    std::iota(perm.rbegin(), perm.rend(), 0);
  }
  for (int64_t& axis : perm) axis = checked_axis(axis, static_cast<int64_t>(rank));
  return perm;
}

bool is_perm(const Graph& g, const Node* transpose, std::initializer_list<int64_t> perm) {
  return transpose != nullptr && transpose->is("Transpose") &&
         std::ranges::equal(perm_of(g, *transpose), perm);
}

ScaledValue unscaled(const Graph& g, ScaledValue from) {
  const Node* n = g.producer(from.value);
  if (n == nullptr || (!n->is("Mul") && !n->is("Div"))) return from;
  const auto right = scalar_of(g, n->inputs[1]), left = scalar_of(g, n->inputs[0]);
  ScaledValue inner = from;
  if (right) {
    inner = {n->inputs[0], n->is("Mul") ? from.scale * *right : from.scale / *right};
  } else if (left && n->is("Mul")) {
    inner = {n->inputs[1], from.scale * *left};
  }
  // A constant of shape [1,1,1,1,1] would have raised the rank.
  return same_dims(dims_of(g, inner.value), dims_of(g, from.value)) ? inner : from;
}

Pat activation_of_product(const Pat& product) {
  std::vector<Pat> choices;
  for (const char* name : {"Gelu", "Relu", "Tanh", "Sigmoid", "HardSwish", "planck.Swish"}) {
    choices.push_back(op(name, {product}));
  }
  return either(std::move(choices));
}

std::string activation_name(const Node& n) {
  if (n.is("Gelu")) return n.as<ops::Gelu>().approximate == "tanh" ? "gelu_tanh" : "gelu";
  if (n.is("HardSwish")) return "hard_swish";
  return n.is("Relu") ? "relu" : n.is("Tanh") ? "tanh" : n.is("Sigmoid") ? "sigmoid" : "swish";
}

std::string why_no_residual(const Graph& g, const Node& product, const Node& add) {
  const ValueId y = product.outputs[0], residual = other_input(add, y);
  if (residual == kAbsent) return cat("both operands are ", label(g, y));
  if (product.input(3) != kAbsent) return cat(label(g, y), " has a residual already");
  if (g.uses(y) != 1) return cat(label(g, y), " is also read elsewhere");
  if (!same_dims(dims_of(g, residual), dims_of(g, y)) ||
      !same_dims(dims_of(g, add.outputs[0]), dims_of(g, y))) {
    return cat("the residual is ", g.value(residual).type(), ", the product ", g.value(y).type());
  }
  return "";
}

std::vector<ValueId> with_residual(const Node& product, const Node& add) {
  std::vector<ValueId> inputs = product.inputs;
  inputs.resize(3, kAbsent);
  inputs.push_back(other_input(add, product.outputs[0]));
  return inputs;
}

namespace {

// Copies elements of `size` bytes; the compiler turns the common sizes into plain moves.
template <class Element>
void transpose_elements(const std::byte* from, std::byte* to, int64_t rows, int64_t columns) {
  constexpr int64_t kBlock = 32;  // two blocks of 64-bit elements stay in L1
  const auto* source = reinterpret_cast<const Element*>(from);
  auto* target = reinterpret_cast<Element*>(to);
  for (int64_t i = 0; i < rows; i += kBlock) {
    check_guard();
    for (int64_t j = 0; j < columns; j += kBlock) {
      for (int64_t r = i; r < std::min(i + kBlock, rows); ++r) {
        for (int64_t c = j; c < std::min(j + kBlock, columns); ++c) {
          target[c * rows + r] = source[r * columns + c];
        }
      }
    }
  }
}

}  // namespace

Tensor transposed_matrix(const Tensor& matrix) {
  const int64_t rows = matrix.shape()[0], columns = matrix.shape()[1];
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(matrix.dtype(), {columns, rows}, &bytes);
  switch (size_of(matrix.dtype())) {
    case 1:
      transpose_elements<uint8_t>(matrix.data(), bytes, rows, columns);
      break;
    case 2:
      transpose_elements<uint16_t>(matrix.data(), bytes, rows, columns);
      break;
    case 4:
      transpose_elements<uint32_t>(matrix.data(), bytes, rows, columns);
      break;
    default:
      transpose_elements<uint64_t>(matrix.data(), bytes, rows, columns);
  }
  return out;
}

Tensor scaled(const Tensor& t, double factor) {
  Wide wide = widen(t);
  for (double& x : wide.real) x *= factor;
  return narrow(wide);
}

Tensor filled(DType dtype, Shape shape, double value) {
  Wide wide(dtype, std::move(shape));
  for (double& x : wide.real) x = value;
  for (int64_t& x : wide.integer) x = static_cast<int64_t>(value);
  return narrow(wide);
}

Tensor side_by_side(std::span<const Tensor> parts) {
  Shape shape = parts[0].shape();
  const int64_t rows = shape.size() == 2 ? shape[0] : 1;
  shape.back() = 0;
  for (const Tensor& t : parts) shape.back() = checked_add(shape.back(), t.shape().back());
  std::byte* to = nullptr;
  Tensor out = Tensor::make(parts[0].dtype(), shape, &to);
  for (int64_t row = 0; row < rows; ++row) {
    for (const Tensor& t : parts) {
      const auto bytes = static_cast<size_t>(t.shape().back() * size_of(t.dtype()));
      std::memcpy(to, t.data() + static_cast<size_t>(row) * bytes, bytes);
      to += bytes;
    }
  }
  return out;
}

ValueId as_row(Patch& patch, const Graph& g, ValueId id, int64_t width) {
  const std::vector<Dim>& dims = dims_of(g, id);
  if (dims.size() == 1 && dims[0] == Dim(width)) return id;
  if (!is_constant(g, id)) return kAbsent;
  const Tensor& t = *g.value(id).fact.constant;
  if (is_row_of(dims, width)) return patch.constant(t.reshaped({width}));
  const auto number = scalar_of(g, id);
  if (number && dims.size() <= 1) return patch.constant(filled(t.dtype(), {width}, *number));
  return kAbsent;
}

}  // namespace planck
