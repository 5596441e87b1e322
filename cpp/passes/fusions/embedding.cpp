// passes/fusions/embedding.cpp; y = LayerNormalization(sum_i table_i[ids_i])
#include "ops/embedding.h"

#include "ops/gather.h"
#include "ops/norm.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  return op("LayerNormalization", {var("x"), var("gain"), either({absent(), var("bias")})});
}

struct Leaves {
  std::vector<const Node*> gathers;
  ValueId other = kAbsent;  // a summand that is no look-up
};

bool is_lookup(const Graph& g, const Node* n) {
  if (n == nullptr || !n->is("Gather") || !is_constant(g, n->inputs[0])) return false;
  const std::vector<Dim>& table = dims_of(g, n->inputs[0]);
  return table.size() == 2 && checked_axis(n->as<ops::Gather>().axis, 2) == 0;
}

// The summands of a tree of Adds whose partial sums nobody else reads.
void collect(const Graph& g, ValueId v, Leaves& leaves) {
  const Node* n = g.uses(v) == 1 ? g.producer(v) : nullptr;
  if (n != nullptr && n->is("Add")) {
    for (const ValueId operand : n->inputs) collect(g, operand, leaves);
  } else if (is_lookup(g, n)) {
    leaves.gathers.push_back(n);
  } else {
    leaves.other = v;
  }
}

ValueId bias_of(const Graph& g, Patch& patch, const Match& m) {
  if (m.has("bias")) return m["bias"].id;
  const ValueId gain = m["gain"].id;
  return patch.constant(filled(dtype_of(g, gain), {*dims_of(g, gain).back().known()}, 0));
}

Outcome rewrite(const Graph& g, const Match& m) {
  Leaves leaves;
  collect(g, m["x"].id, leaves);
  if (leaves.gathers.empty()) return refuse("");
  if (leaves.other != kAbsent) {
    return refuse("the summand ", label(g, leaves.other), " is no look-up that is read once");
  }
  const auto& norm = m.node().as<ops::LayerNormalization>();
  const int64_t rank = m["x"].type().rank();
  if (checked_axis(norm.axis, rank) != rank - 1) return refuse("the norm goes over several axes");
  if (!dims_of(g, m["gain"].id).back().known()) return refuse("the width is not known");
  if (m.node().outputs.size() > 1) return refuse("mean and deviation are read as well");
  std::vector<ValueId> inputs;
  for (const Node* n : leaves.gathers)
    inputs.insert(inputs.end(), n->inputs.begin(), n->inputs.end());
  Patch patch(g, m.at());
  inputs.push_back(m["gain"].id);
  inputs.push_back(bias_of(g, patch, m));
  const auto tables = static_cast<int64_t>(leaves.gathers.size());
  patch.replace(m.root(), patch.add(ops::Embedding{tables, norm.epsilon, 1}, std::move(inputs)));
  return patch;
}

}  // namespace

PLANCK_FUSION(embedding)

}  // namespace planck
