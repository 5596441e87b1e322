// passes/fusions/qkv.cpp; products of one value with several matrices: one product, then a Split
#include <algorithm>

#include "ops/linear.h"
#include "ops/split.h"
#include "passes/passes.h"
#include "passes/quant_facts.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  return op("planck.Linear", {var("x"), constant("w"), either({absent(), var("b")})});
}

bool joins(const Graph& g, const Node& n, const Node& first) {
  if (!n.is("planck.Linear") || !n.as<ops::Linear>().activation.empty()) return false;
  if (n.input(0) != first.input(0) || n.input(3) != kAbsent) return false;
  const ValueId bias = n.input(2);
  return is_constant(g, n.input(1)) && (bias == kAbsent || is_constant(g, bias));
}

// All that join `first`, in the order of the graph; empty where one comes before it.
std::vector<const Node*> group_of(const Graph& g, const Node& first) {
  std::vector<NodeId> wanted;
  for (const NodeId id : g.value(first.input(0)).readers) {
    if (joins(g, g.node(id), first)) wanted.push_back(id);
  }
  std::vector<const Node*> group;
  if (wanted.size() < 2) return group;
  for (const Node& n : g.nodes_from(first.id)) {
    if (std::ranges::find(wanted, n.id) != wanted.end()) group.push_back(&n);
    if (group.size() == wanted.size()) return group;
  }
  return {};
}

Tensor bias_of(const Graph& g, const Node& n) {
  if (n.input(2) != kAbsent) return *g.value(n.input(2)).fact.constant;
  const Tensor& w = *g.value(n.input(1)).fact.constant;
  return filled(w.dtype(), {w.shape()[1]}, 0);
}

Outcome fused(const Graph& g, const std::vector<const Node*>& group) {
  std::vector<Tensor> weights, biases;
  std::vector<QuantFact> grids;
  std::vector<int64_t> widths;
  bool biased = false;
  for (const Node* n : group) {
    weights.push_back(*g.value(n->input(1)).fact.constant);
    grids.push_back(g.value(n->input(1)).quant);
    biases.push_back(bias_of(g, *n));
    widths.push_back(weights.back().shape()[1]);
    biased = biased || n->input(2) != kAbsent;
  }
  Patch patch(g, group[0]->id);
  const QuantFact grid = joined_columns(weights, grids);
  const bool quantised = std::ranges::any_of(grids, [](const auto& q) { return q != nullptr; });
  if (quantised && grid == nullptr) return refuse("the matrices lie on grids that do not join");
  std::vector<ValueId> inputs{group[0]->input(0), patch.constant(side_by_side(weights), grid)};
  if (biased) inputs.push_back(patch.constant(side_by_side(biases)));
  const ValueId all = patch.add(ops::Linear{}, std::move(inputs));
  const ValueId sizes = patch.constant(Tensor::ints(widths));
  const auto parts =
      patch.add_many(ops::Split{.axis = -1, .num_outputs = 0}, {all, sizes}, group.size());
  for (size_t i = 0; i < group.size(); ++i) patch.replace(group[i]->outputs[0], parts[i]);
  patch.credit(all);
  return patch;
}

Outcome rewrite(const Graph& g, const Match& m) {
  if (!joins(g, m.node(), m.node())) return refuse("");
  const std::vector<const Node*> group = group_of(g, m.node());
  if (group.empty()) return refuse("");  // alone, or the first of the group stands for it
  const DType w = dtype_of(g, group[0]->input(1));
  for (const Node* n : group) {
    if (dtype_of(g, n->input(1)) == w) continue;
    return refuse("the matrices have types ", w, " and ", dtype_of(g, n->input(1)));
  }
  return fused(g, group);
}

}  // namespace

PLANCK_FUSION(qkv)

}  // namespace planck
