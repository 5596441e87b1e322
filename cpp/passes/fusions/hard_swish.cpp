// passes/fusions/hard_swish.cpp; y = x min(max(x + 3, 0), 6) / 6, or with a HardSigmoid of slope
// 1/6
#include <cmath>

#include "ops/unary.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

bool has_slope_of_sixth(const Graph&, const Node& n) {
  const auto& gate = n.as<ops::HardSigmoid>();
  return static_cast<float>(gate.alpha) == 1.0F / 6 && gate.beta == 0.5;
}

Pat pattern() {
  const Pat x = var("x");
  const Pat ramp = op("Clip", {x + 3, lit(0), lit(6)});
  return either({x * op("HardSigmoid", {x}, has_slope_of_sixth), (x * ramp) / 6, x * (ramp / 6),
                 x * ramp * (1.0 / 6)});
}

Outcome rewrite(const Graph& g, const Match& m) {
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  Patch patch(g, m.at());
  patch.replace(m.root(), patch.add(ops::HardSwish{}, {m["x"].id}));
  return patch;
}

}  // namespace

PLANCK_FUSION(hard_swish)

}  // namespace planck
