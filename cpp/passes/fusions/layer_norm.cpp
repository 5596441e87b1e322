// passes/fusions/layer_norm.cpp; y = (x - mean x) / sqrt(mean (x - mean x)^2 + eps) * gain + bias
#include "ops/norm.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat mean(const Pat& x, const std::string& axes, const std::string& name) {
  return named(name, op("ReduceMean", {x, either({constant(axes), absent()})}));
}

// The variables have different names, so that a near miss is refused with its reason.
Pat pattern() {
  const Pat top = var("x") - mean(var("x1"), "axes", "mean");
  const Pat centred = named("centred", var("x2") - mean(var("x3"), "axes1", "mean1"));
  const Pat square = either({op("Pow", {centred, lit(2)}), centred * var("centred")});
  const Pat variance = mean(square, "axes2", "variance");
  const Pat eps = constant("eps");
  const Pat root = op("Sqrt", {variance});
  return op("Div", {top, either({op("Sqrt", {variance + eps}), named("outside", root + eps),
                                 named("none", root)})});
}

bool same_x(const Match& m) {
  const ValueId x = m["x"].id;
  return m["x1"].id == x && m["x2"].id == x && m["x3"].id == x;
}

// What may follow the normalised value and belongs to it: each has one reader, the next one.
struct Tail {
  ValueId x, y;  // input and result of the whole chain
  ValueId gain = kAbsent, bias = kAbsent;
  NodeId last;  // that makes y
};

// Half-precision models normalise between two Casts; the fused op computes wide anyway.
void absorb_casts(const Graph& g, Tail& tail) {
  const Node* before = made_by(g, tail.x, "Cast");
  const Node* after = only_reader(g, tail.y);
  if (before == nullptr || after == nullptr || !after->is("Cast")) return;
  const DType narrow = dtype_of(g, before->inputs[0]);
  if (!is_float(narrow) || dtype_of(g, after->outputs[0]) != narrow) return;
  tail = {before->inputs[0], after->outputs[0], kAbsent, kAbsent, after->id};
}

// The other operand of a Mul or Add that alone reads y, if it is one number for each column.
ValueId absorb(const Graph& g, Tail& tail, std::string_view op, Patch& patch, int64_t width) {
  const Node* n = only_reader(g, tail.y);
  if (n == nullptr || !n->is(op)) return kAbsent;
  const ValueId operand = other_input(*n, tail.y);
  if (operand == kAbsent || !same_dims(dims_of(g, n->outputs[0]), dims_of(g, tail.y))) {
    return kAbsent;
  }
  const ValueId row = as_row(patch, g, operand, width);
  if (row == kAbsent) return kAbsent;
  tail.y = n->outputs[0];
  tail.last = n->id;
  return row;
}

// Where the patch goes is known only after a look ahead, which makes constants of its own.
NodeId end_of(const Graph& g, Tail tail, int64_t width) {
  Patch scratch(g, tail.last);
  absorb(g, tail, "Mul", scratch, width);
  absorb(g, tail, "Add", scratch, width);
  return tail.last;
}

Outcome fused(const Graph& g, Tail tail, int64_t width, double epsilon) {
  absorb_casts(g, tail);
  Patch patch(g, end_of(g, tail, width));
  tail.gain = absorb(g, tail, "Mul", patch, width);
  tail.bias = absorb(g, tail, "Add", patch, width);
  if (tail.gain == kAbsent) {
    tail.gain = patch.constant(filled(dtype_of(g, tail.x), {width}, 1));
  }
  std::vector<ValueId> inputs{tail.x, tail.gain};
  if (tail.bias != kAbsent) inputs.push_back(tail.bias);
  ops::LayerNormalization norm;
  norm.epsilon = epsilon;
  patch.replace(tail.y, patch.add(norm, std::move(inputs)));
  return patch;
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Value& x = m["x"];
  if (!is_float(x.type().dtype)) return refuse("x is ", x.type(), ", not of a float type");
  if (!same_x(m)) {
    return refuse("the branches read different values: ", label(g, x.id), ", ",
                  label(g, m["x1"].id), ", ", label(g, m["x2"].id), ", ", label(g, m["x3"].id));
  }
  if (m.has("outside")) return refuse("epsilon is added outside of the root");
  // In half precision the customary 1e-12 is 0, and gone.
  const auto epsilon = m.has("none") ? std::optional(0.0) : scalar_of(g, m["eps"].id);
  if (!epsilon) return refuse("epsilon is ", m["eps"].type(), ", not one number");
  for (const char* reduced : {"mean", "mean1", "variance"}) {
    if (!reduces_only(g, *g.producer(m[reduced].id), -1, 1)) {
      return refuse(label(g, m[reduced].id), " is no mean over the last axis alone");
    }
  }
  const auto width = x.type().dims.back().known();
  if (!width) return refuse("the width ", x.type().dims.back(), " is not known");
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  return fused(g, {x.id, m.root(), kAbsent, kAbsent, m.at()}, *width, *epsilon);
}

}  // namespace

PLANCK_FUSION(layer_norm)

}  // namespace planck
