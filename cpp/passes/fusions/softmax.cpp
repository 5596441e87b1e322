// passes/fusions/softmax.cpp; softmax(x - max x), and exp(x - max x) / sum exp(x - max x)
#include "ops/softmax.h"

#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// The op subtracts the maximum itself.
Pat pattern() {
  const Pat axes = either({constant("axes"), absent()});
  const Pat shifted = var("x") - named("max", op("ReduceMax", {var("x1"), axes}));
  const Pat powers = named("powers", op("Exp", {shifted}));
  const Pat axes1 = either({constant("axes1"), absent()});
  return either({op("Softmax", {shifted}),
                 op("Div", {powers, named("sum", op("ReduceSum", {var("powers"), axes1}))})});
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Value& x = m["x"];
  if (m["x1"].id != x.id) {
    return refuse("the maximum is that of ", label(g, m["x1"].id), ", not of ", label(g, x.id));
  }
  const int64_t rank = x.type().rank();
  const auto axes = axes_input(g, g.producer(m["max"].id)->input(1), rank);
  if (!axes || axes->size() != 1) return refuse("the maximum is not over one axis");
  const int64_t axis = axes->front();
  const bool whole = m.node().is("Softmax")
                         ? checked_axis(m.node().as<ops::Softmax>().axis, rank) == axis
                         : reduces_only(g, *g.producer(m["sum"].id), axis, 1);
  if (!whole || !reduces_only(g, *g.producer(m["max"].id), axis, 1)) {
    return refuse("maximum and sum go over different axes");
  }
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  Patch patch(g, m.at());
  patch.replace(m.root(), patch.add(ops::Softmax{axis}, {x.id}));
  return patch;
}

}  // namespace

PLANCK_FUSION(softmax)

}  // namespace planck
