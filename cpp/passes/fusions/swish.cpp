// passes/fusions/swish.cpp; y = x sigmoid(x)
#include "ops/unary.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() { return var("x") * op("Sigmoid", {var("x")}); }

Outcome rewrite(const Graph& g, const Match& m) {
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  Patch patch(g, m.at());
  patch.replace(m.root(), patch.add(ops::Swish{}, {m["x"].id}));
  return patch;
}

}  // namespace

PLANCK_FUSION(swish)

}  // namespace planck
