// passes/fusions/gelu.cpp; y = x * 0.5 * (1 + erf(x / sqrt 2)), in any bracketing
#include <cmath>

#include "ops/unary.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat halved(const Pat& x, const Pat& gate) {
  return either({x * gate * 0.5, (x / 2) * gate, (x * gate) / 2});
}

Pat pattern() {
  const Pat x = var("x");
  const Pat gate = op("Erf", {either({x / M_SQRT2, x * M_SQRT1_2})}) + 1;
  return halved(x, gate);
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Value& x = m["x"];
  if (!is_float(x.type().dtype)) return refuse("x is ", x.type(), ", Gelu needs a float type");
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  Patch patch(g, m.at());
  patch.replace(m.root(), patch.add(ops::Gelu{"none"}, {x.id}));
  return patch;
}

}  // namespace

PLANCK_FUSION(gelu)

}  // namespace planck
