// passes/fusions/conv_residual.cpp; y = conv(x, w) + bias + residual in one pass over y
#include "ops/conv.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// Either operand may be the convolution, so the formula leaves that open.
Pat pattern() { return op("Add", {var("a"), var("b")}); }

// Of two convolutions the second operand's comes first; this is only a fixed order.
Outcome rewrite(const Graph& g, const Match& m) {
  std::string reason;
  for (const ValueId v : {m.node().inputs[1], m.node().inputs[0]}) {
    const Node* conv = made_by(g, v, "planck.Convolution");
    if (conv == nullptr) continue;
    const std::string& activation = conv->as<ops::Convolution>().activation;
    reason = why_no_residual(g, *conv, m.node());
    if (!activation.empty()) reason = cat(label(g, v), " ends in ", activation, " already");
    if (!reason.empty()) continue;
    Patch patch(g, m.at());
    patch.replace(m.root(),
                  patch.add(conv->as<ops::Convolution>(), with_residual(*conv, m.node())));
    return patch;
  }
  return Refusal{reason};
}

}  // namespace

PLANCK_FUSION(conv_residual)

}  // namespace planck
