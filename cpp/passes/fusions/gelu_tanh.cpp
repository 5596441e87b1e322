// passes/fusions/gelu_tanh.cpp; y = x * 0.5 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))
#include <cmath>

#include "ops/unary.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  const Pat x = var("x");
  const double root = std::sqrt(2 / M_PI);
  const Pat cube = either({op("Pow", {x, lit(3)}) * 0.044715, x * x * x * 0.044715,
                           x * op("Pow", {x, lit(2)}) * 0.044715});
  const Pat factored = x * (x * x * 0.044715 + 1) * root;
  const Pat gate = op("Tanh", {either({(x + cube) * root, factored})}) + 1;
  return either({x * gate * 0.5, (x / 2) * gate, (x * gate) / 2});
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Value& x = m["x"];
  if (!is_float(x.type().dtype)) return refuse("x is ", x.type(), ", Gelu needs a float type");
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  Patch patch(g, m.at());
  patch.replace(m.root(), patch.add(ops::Gelu{"tanh"}, {x.id}));
  return patch;
}

}  // namespace

PLANCK_FUSION(gelu_tanh)

}  // namespace planck
