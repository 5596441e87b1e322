// passes/quant_moves.cpp: brings QuantizeLinear up to the product that makes its input and
// DequantizeLinear down to the product that reads its output, through ops that only move or choose
// elements, so that bytes are moved and integer products meet. On one grid such an op commutes with
// both, since quantisation rises: Q(max(a, b)) = max(Q(a), Q(b)).
//   q = Q(View(y))            -> q = View(Q(y))            y is a product
//   y = MaxPool(DQ(q))        -> y = DQ(MaxPool(q))        y is read by a product or its own Q
//   y = DQ(Transpose(q))      -> y = Transpose(DQ(q))      y is read by a product of two
//   activations Q(DQ(q)) on one grid      -> q
// The third lets attention find its heads; between its products nothing is integer.
#include <algorithm>
#include <cmath>
#include <optional>

#include "ops/concat.h"
#include "ops/gather.h"
#include "ops/pad.h"
#include "ops/pool.h"
#include "ops/quantize.h"
#include "ops/resize.h"
#include "ops/transpose.h"
#include "passes/passes.h"
#include "passes/quant_facts.h"
#include "passes/tools.h"

namespace planck {

namespace {

constexpr std::string_view kViews[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "planck.View"};
constexpr std::string_view kMoves[] = {
    "DepthToSpace", "Expand", "Gather", "Identity",    "ReduceMax", "ReduceMin",       "Slice",
    "SpaceToDepth", "Split",  "Tile",   "planck.Crop", "Transpose", "planck.Broadcast"};

bool is_one_of(const Node& n, auto& names) {
  return std::ranges::any_of(names, [&](std::string_view name) { return n.is(name); });
}

// Whether each element of the outputs is one of input 0, chosen by place or by size; padding apart.
bool moves(const Node& n) {
  if (is_one_of(n, kViews) || is_one_of(n, kMoves) || n.is("Pad")) return true;
  if (n.is("MaxPool")) return n.outputs.size() == 1;
  if (!n.is("Resize")) return false;
  const auto& resize = n.as<ops::Resize>();
  return resize.mode == "nearest" && resize.coordinate_transformation_mode != "tf_crop_and_resize";
}

// What only sets or turns the axes, as heads are split and merged.
bool turns(const Node& n) { return is_one_of(n, kViews) || n.is("Transpose"); }

bool has_data(const Node& n, ValueId v) { return !n.inputs.empty() && n.inputs[0] == v; }

// --- grids ------------------------------------------------------------------------------------

// The grid of a Q or DQ whose parameters are constant and whose floats tell its integers apart.
std::optional<QParams> grid_if(const Graph& g, const Node* n, std::string_view op) {
  if (n == nullptr || !n->is(op)) return std::nullopt;
  auto grid = grid_of(g, *n);
  auto* q = std::get_if<QParams>(&grid);
  if (q == nullptr) return std::nullopt;
  return std::move(*q);
}
std::optional<QParams> quantise_grid(const Graph& g, const Node* n) {
  return grid_if(g, n, "QuantizeLinear");
}
std::optional<QParams> dequantise_grid(const Graph& g, const Node* n) {
  return grid_if(g, n, "DequantizeLinear");
}

// --- who makes and who reads -------------------------------------------------------------------

// A product with constant weights, which may take integers in.
bool is_product(const Graph& g, const Node& n) {
  static constexpr std::string_view kProducts[] = {
      "MatMul", "Gemm", "Conv", "ConvTranspose", "planck.Linear", "planck.Convolution"};
  return is_one_of(n, kProducts) && is_constant(g, n.input(1));
}

constexpr std::string_view kElementwise[] = {"Add",  "Clip",    "Div",         "Erf", "Gelu",
                                             "Mul",  "Relu",    "LeakyRelu",   "Sub", "HardSwish",
                                             "Tanh", "Sigmoid", "planck.Swish"};
// What lies around a value, as far as it matters; comes to an end where everybody reads everything.
class Around {
 public:
  explicit Around(const Graph& g) : graph_(g) {}

  // Whether a product makes the value, what may become its epilogue included.
  bool ends_product(ValueId v, int depth = kDepth) {
    const Node* n = graph_.producer(v);
    if (n == nullptr || over(depth)) return false;
    if (is_product(graph_, *n)) return true;
    if (moves(*n)) return ends_product(n->inputs[0], depth - 1);
    return is_one_of(*n, kElementwise) && std::ranges::any_of(n->inputs, [&](ValueId in) {
             return in != kAbsent && ends_product(in, depth - 1);
           });
  }

  // Whether somebody wants the integers of the value, which lies on the grid: a product with
  // weights on a grid of their own, or a Q that would give them back.
  bool wants_integers(ValueId v, const QParams& grid, int depth = kDepth) {
    return v != kAbsent && any_reader(v, depth, [&](const Node& n) {
             if (n.is("Concat")) return wants_integers(n.outputs[0], grid, depth - 1);
             if (!has_data(n, v)) return false;
             if (is_product(graph_, n)) return graph_.value(n.inputs[1]).quant != nullptr;
             if (n.is("QuantizeLinear")) return quantise_grid(graph_, &n) == grid;
             return moves(n) && std::ranges::any_of(n.outputs, [&](ValueId out) {
                      return wants_integers(out, grid, depth - 1);
                    });
           });
  }

  // Whether a product of two activations reads the value, turned and times a number perhaps.
  bool meets_activations(ValueId v, int depth = kDepth) {
    return any_reader(v, depth, [&](const Node& n) {
      if (n.is("MatMul")) {
        return !is_constant(graph_, n.inputs[0]) && !is_constant(graph_, n.inputs[1]);
      }
      const bool scales = (n.is("Mul") || n.is("Div")) && scalar_of(graph_, other_input(n, v));
      const bool passes = scales || (turns(n) && has_data(n, v));
      return passes && meets_activations(n.outputs[0], depth - 1);
    });
  }

 private:
  static constexpr int kDepth = 8;  // of what follows a product in its epilogue, or leads to one
  bool over(int depth) { return depth == 0 || --left_ < 0; }
  bool any_reader(ValueId v, int depth, auto&& fits) {
    return std::ranges::any_of(graph_.value(v).readers,
                               [&](NodeId id) { return !over(depth) && fits(graph_.node(id)); });
  }

  const Graph& graph_;
  int left_ = 500;
};

bool ends_product(const Graph& g, ValueId v) { return Around(g).ends_product(v); }
bool wants_integers(const Graph& g, ValueId v, const QParams& grid) {
  return Around(g).wants_integers(v, grid);
}

// --- moving ------------------------------------------------------------------------------------

// Inputs of the op on integers: `q` in place of the data, the padding on the grid too. Nothing if
// the padding lies on no place of the grid.
std::optional<std::vector<ValueId>> on_integers(const Graph& g, Patch& patch, const Node& n,
                                                ValueId q, const QParams& grid) {
  std::vector<ValueId> inputs = n.inputs;
  inputs[0] = q;
  if (!n.is("Pad") || n.as<ops::Pad>().mode != "constant") return inputs;
  const auto given = n.input(2) == kAbsent ? std::optional(0.0) : scalar_of(g, n.inputs[2]);
  if (!given) return std::nullopt;
  const auto scale = static_cast<double>(grid.scale[0]);
  const double place = *given / scale + grid.zero_point[0];
  const ops::IntegerEnds ends = ops::integer_ends(grid.dtype);
  if (place != std::nearbyint(place) || place < static_cast<double>(ends.low) ||
      place > static_cast<double>(ends.high)) {
    return std::nullopt;
  }
  inputs.resize(std::max<size_t>(inputs.size(), 3), kAbsent);
  inputs[2] = patch.constant(filled(grid.dtype, {}, place));
  return inputs;
}

// Why a grid with several scales cannot go from output to input of the op, or the other way.
std::string why_not(const Node& n, const QParams& grid) {
  if (grid.axis < 0 || n.is("Transpose")) return "";
  return cat("scales along axis ", grid.axis, " do not go through ", n.op->text());
}

// The axis of a Q or DQ behind (or before) a Transpose.
int64_t moved_axis(const Graph& g, const Node& n, const QParams& grid, bool to_input) {
  if (grid.axis < 0) return 1;  // as ONNX has it where there is no axis
  const std::vector<int64_t> perm = perm_of(g, n);
  if (to_input) return perm[static_cast<size_t>(grid.axis)];
  return std::ranges::find(perm, grid.axis) - perm.begin();
}

ops::QuantizeLinear with_axis(ops::QuantizeLinear op, int64_t axis) {
  op.axis = axis;
  return op;
}
ops::DequantizeLinear with_axis(ops::DequantizeLinear op, int64_t axis) {
  op.axis = axis;
  return op;
}

// The Q or DQ node on another value.
template <class Op>
ValueId again(Patch& patch, const Node& n, ValueId value, int64_t axis) {
  std::vector<ValueId> inputs = n.inputs;
  inputs[0] = value;
  return patch.add(with_axis(n.as<Op>(), axis), std::move(inputs));
}

// Q(op(x)) -> op(Q(x)).
std::optional<Outcome> quantise_first(const Graph& g, const Node& q, const QParams& grid) {
  const Node* n = g.producer(q.inputs[0]);
  if (n == nullptr || !moves(*n) || n->outputs.size() != 1) return std::nullopt;
  const ValueId x = n->inputs[0];
  if (!ends_product(g, x)) return std::nullopt;
  if (only_reader(g, n->outputs[0]) == nullptr || only_reader(g, x) == nullptr) {
    return refuse(label(g, g.uses(x) > 1 ? x : n->outputs[0]), " is also read as a float");
  }
  if (const std::string why = why_not(*n, grid); !why.empty()) return Refusal{why};
  Patch patch(g, q.id);
  const int64_t axis = moved_axis(g, *n, grid, true);
  const ValueId bytes = again<ops::QuantizeLinear>(patch, q, x, axis);
  auto inputs = on_integers(g, patch, *n, bytes, grid);
  if (!inputs) return refuse("the padding lies on no place of the grid");
  patch.replace(q.outputs[0], patch.add(n->op->text(), std::move(*inputs), n->attrs));
  patch.credit(bytes);
  return patch;
}

// Q(Concat(x, ..)) -> Concat(Q(x), ..), where all parts are products or were integers.
std::optional<Outcome> quantise_parts(const Graph& g, const Node& q, const QParams& grid) {
  const Node* n = g.producer(q.inputs[0]);
  if (n == nullptr || !n->is("Concat") || grid.axis >= 0) return std::nullopt;
  const bool ready = std::ranges::all_of(n->inputs, [&](ValueId x) {
    const auto was = dequantise_grid(g, g.producer(x));
    return (was && was->axis < 0) || (ends_product(g, x) && only_reader(g, x) != nullptr);
  });
  if (!ready) return std::nullopt;
  if (only_reader(g, n->outputs[0]) == nullptr) {
    return refuse(label(g, n->outputs[0]), " is also read as a float");
  }
  Patch patch(g, q.id);
  std::vector<ValueId> parts;
  for (const ValueId x : n->inputs) parts.push_back(again<ops::QuantizeLinear>(patch, q, x, 1));
  patch.replace(q.outputs[0], patch.add(n->op->text(), std::move(parts), n->attrs));
  return patch;
}

// Q(DQ(q)) on one grid.
std::optional<Outcome> same_grid(const Graph& g, const Node& q, const QParams& grid) {
  const Node* dq = g.producer(q.inputs[0]);
  const auto was = dequantise_grid(g, dq);
  if (!was || *was != grid || !gives_back(dtype_of(g, q.inputs[0]), grid)) return std::nullopt;
  Patch patch(g, q.id);
  patch.replace(q.outputs[0], dq->inputs[0]);
  return patch;
}

// op(DQ(q)) -> DQ(op(q)).
std::optional<Outcome> dequantise_last(const Graph& g, const Node& n) {
  const Node* dq = g.producer(n.inputs[0]);
  const auto grid = dequantise_grid(g, dq);
  if (!grid) return std::nullopt;
  const bool wanted =
      std::ranges::any_of(n.outputs, [&](ValueId out) { return wants_integers(g, out, *grid); });
  if (!wanted) return std::nullopt;
  if (const std::string why = why_not(n, *grid); !why.empty()) return Refusal{why};
  Patch patch(g, n.id);
  auto inputs = on_integers(g, patch, n, dq->inputs[0], *grid);
  if (!inputs) return refuse("the padding lies on no place of the grid");
  const auto moved = patch.add_node(n.op->text(), n.attrs, std::move(*inputs), n.outputs.size());
  const int64_t axis = moved_axis(g, n, *grid, false);
  for (size_t i = 0; i < moved.size(); ++i) {
    if (n.outputs[i] == kAbsent) continue;
    patch.replace(n.outputs[i], again<ops::DequantizeLinear>(patch, *dq, moved[i], axis));
  }
  patch.credit(moved[0]);
  return patch;
}

// Concat(DQ(q), ..) -> DQ(Concat(q, ..)) on one grid.
std::optional<Outcome> dequantise_joined(const Graph& g, const Node& n) {
  const Node* first = g.producer(n.inputs[0]);
  const auto grid = dequantise_grid(g, first);
  if (!grid || !wants_integers(g, n.outputs[0], *grid)) return std::nullopt;
  std::vector<ValueId> parts;
  for (const ValueId x : n.inputs) {
    const Node* dq = g.producer(x);
    if (dequantise_grid(g, dq) != grid) return refuse("its parts lie on different grids");
    parts.push_back(dq->inputs[0]);
  }
  if (grid->axis >= 0) return refuse("its parts have several scales");
  Patch patch(g, n.id);
  const ValueId joined = patch.add(n.op->text(), std::move(parts), n.attrs);
  patch.replace(n.outputs[0], again<ops::DequantizeLinear>(patch, *first, joined, 1));
  patch.credit(joined);
  return patch;
}

// DQ(op(q)) -> op(DQ(q)) where no product takes the integers.
std::optional<Outcome> dequantise_first(const Graph& g, const Node& dq) {
  const auto grid = dequantise_grid(g, &dq);
  const Node* n = g.producer(dq.inputs[0]);
  if (!grid || grid->axis >= 0 || n == nullptr || !turns(*n)) return std::nullopt;
  if (only_reader(g, n->outputs[0]) == nullptr || !Around(g).meets_activations(dq.outputs[0]) ||
      wants_integers(g, dq.outputs[0], *grid)) {
    return std::nullopt;
  }
  Patch patch(g, dq.id);
  std::vector<ValueId> inputs = n->inputs;
  inputs[0] = again<ops::DequantizeLinear>(patch, dq, n->inputs[0], 1);
  patch.replace(dq.outputs[0], patch.add(n->op->text(), std::move(inputs), n->attrs));
  return patch;
}

std::optional<Outcome> quantise(const Graph& g, const Node& n) {
  const auto grid = quantise_grid(g, &n);
  if (!grid) return std::nullopt;
  if (auto outcome = same_grid(g, n, *grid)) return outcome;
  if (auto outcome = quantise_parts(g, n, *grid)) return outcome;
  return quantise_first(g, n, *grid);
}

std::optional<Outcome> quant_moves(const Graph& g, const Node& n) {
  if (!has_result(n)) return std::nullopt;
  if (n.is("QuantizeLinear")) return quantise(g, n);
  if (n.is("DequantizeLinear")) return dequantise_first(g, n);
  if (n.is("Concat")) return dequantise_joined(g, n);
  return moves(n) && n.inputs[0] != kAbsent ? dequantise_last(g, n) : std::nullopt;
}

}  // namespace

Pass pass_quant_moves() { return node_pass("quant_moves", quant_moves); }

}  // namespace planck
