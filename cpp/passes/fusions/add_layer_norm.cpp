// passes/fusions/add_layer_norm.cpp; y = LayerNormalization(x + residual), and the sum where read
#include "ops/norm.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  return op("LayerNormalization", {named("sum", op("Add", {var("x"), var("residual")})),
                                   var("gain"), either({absent(), var("bias")})});
}

// Other readers of the sum may come before the norm, so both results are made where the sum was;
// that takes parameters which are there by then.
Outcome rewrite(const Graph& g, const Match& m) {
  const Value &x = m["x"], &sum = m["sum"], &residual = m["residual"];
  if (!same_dims(x.type().dims, residual.type().dims)) {
    return refuse("the sum broadcasts ", x.type(), " and ", residual.type());
  }
  if (m.node().outputs.size() > 1) return refuse("mean and deviation are read as well");
  const bool shared = g.uses(sum.id) > 1;
  const bool constant = m["gain"].is_constant() && (!m.has("bias") || m["bias"].is_constant());
  if (shared && !constant) return refuse("the sum is read elsewhere, and gain or bias vary");
  const auto& norm = m.node().as<ops::LayerNormalization>();
  std::vector<ValueId> inputs{x.id, residual.id, m["gain"].id};
  if (m.has("bias")) inputs.push_back(m["bias"].id);
  Patch patch(g, shared ? g.producer(sum.id)->id : m.at());
  const auto made =
      patch.add_many(ops::AddLayerNorm{norm.axis, norm.epsilon}, std::move(inputs), shared ? 2 : 1);
  patch.replace(m.root(), made[0]);
  if (shared) patch.replace(sum.id, made[1]);
  return patch;
}

}  // namespace

PLANCK_FUSION(add_layer_norm)

}  // namespace planck
