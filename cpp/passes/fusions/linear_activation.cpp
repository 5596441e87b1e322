// passes/fusions/linear_activation.cpp; y = activation(x w + bias) in the Linear's epilogue
#include "ops/linear.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  return activation_of_product(
      named("linear", op("planck.Linear", {var("x"), var("w"), either({absent(), var("bias")}),
                                           either({absent(), var("residual")})})));
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Node& linear = *g.producer(m["linear"].id);
  const std::string& before = linear.as<ops::Linear>().activation;
  if (!before.empty()) return refuse("the Linear ends in ", before, " already");
  if (m.has("residual")) return refuse("the Linear adds a residual, after which nothing fits");
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  Patch patch(g, m.at());
  patch.replace(m.root(), patch.add(ops::Linear{activation_name(m.node())}, linear.inputs));
  return patch;
}

}  // namespace

PLANCK_FUSION(linear_activation)

}  // namespace planck
