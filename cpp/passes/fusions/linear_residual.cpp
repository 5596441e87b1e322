// passes/fusions/linear_residual.cpp; y = activation(x w + bias) + residual in one pass over y
#include "ops/linear.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// Either operand may be the Linear, so the formula leaves that open.
Pat pattern() { return op("Add", {var("a"), var("b")}); }

// Of two Linears the second operand's comes first: exporters write the residual as the second
// operand, unless it is the bias, which is gone by now; so this is only a fixed order.
Outcome rewrite(const Graph& g, const Match& m) {
  std::string reason;
  for (const ValueId v : {m.node().inputs[1], m.node().inputs[0]}) {
    const Node* linear = made_by(g, v, "planck.Linear");
    if (linear == nullptr) continue;
    reason = why_no_residual(g, *linear, m.node());
    if (!reason.empty()) continue;
    Patch patch(g, m.at());
    patch.replace(m.root(), patch.add(linear->as<ops::Linear>(), with_residual(*linear, m.node())));
    return patch;
  }
  return Refusal{reason};
}

}  // namespace

PLANCK_FUSION(linear_residual)

}  // namespace planck
