// passes/fusions/linear_residual.cpp; y = activation(x w + bias) + residual in one pass over y
#include "ops/linear.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// Either operand may be the Linear, so the formula leaves that open.
Pat pattern() { return op("Add", {var("a"), var("b")}); }

// Why `linear` cannot take the other operand of the Add as its residual, or nothing.
std::string why_not(const Graph& g, const Node& linear, const Node& add) {
  const ValueId y = linear.outputs[0], residual = other_input(add, y);
  if (residual == kAbsent) return "both operands are the Linear";
  if (linear.input(3) != kAbsent) return cat(label(g, y), " has a residual already");
  if (g.uses(y) != 1) return cat(label(g, y), " is also read elsewhere");
  if (!same_dims(dims_of(g, residual), dims_of(g, y)) ||
      !same_dims(dims_of(g, add.outputs[0]), dims_of(g, y))) {
    return cat("the residual is ", g.value(residual).type(), ", the product ", g.value(y).type());
  }
  return "";
}

Outcome fused(const Graph& g, const Node& linear, const Node& add) {
  Patch patch(g, add.id);
  std::vector<ValueId> inputs = linear.inputs;
  inputs.resize(3, kAbsent);
  inputs.push_back(other_input(add, linear.outputs[0]));
  patch.replace(add.outputs[0], patch.add(linear.as<ops::Linear>(), std::move(inputs)));
  return patch;
}

// Of two Linears the second operand's comes first: exporters write the residual as the second
// operand, unless it is the bias, which is gone by now; so this is only a fixed order.
Outcome rewrite(const Graph& g, const Match& m) {
  std::string reason;
  for (const ValueId v : {m.node().inputs[1], m.node().inputs[0]}) {
    const Node* linear = made_by(g, v, "planck.Linear");
    if (linear == nullptr) continue;
    reason = why_not(g, *linear, m.node());
    if (reason.empty()) return fused(g, *linear, m.node());
  }
  return Refusal{reason};
}

}  // namespace

PLANCK_FUSION(linear_residual)

}  // namespace planck
