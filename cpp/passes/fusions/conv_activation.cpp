// passes/fusions/conv_activation.cpp; y = activation(conv(x, w) + bias + residual)
#include "ops/conv.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  return activation_of_product(named(
      "product", op("planck.Convolution", {var("x"), var("w"), either({absent(), var("bias")}),
                                           either({absent(), var("residual")})})));
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Node& conv = *g.producer(m["product"].id);
  ops::Convolution out = conv.as<ops::Convolution>();
  if (!out.activation.empty()) {
    return refuse("the convolution ends in ", out.activation, " already");
  }
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  out.activation = activation_name(m.node());
  Patch patch(g, m.at());
  patch.replace(m.root(), patch.add(out, conv.inputs));
  return patch;
}

}  // namespace

PLANCK_FUSION(conv_activation)

}  // namespace planck
