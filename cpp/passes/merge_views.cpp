// passes/merge_views.cpp: a chain of ops that only move elements becomes one of them, or none.
#include <algorithm>
#include <optional>

#include "ops/slice.h"
#include "ops/transpose.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Outcome same(const Graph& g, const Node& n, ValueId as) {
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], as);
  return patch;
}

std::optional<Outcome> view(const Graph& g, const Node& n) {
  const Node* inner = made_by(g, n.inputs[0], "planck.View");
  const ValueId from = inner == nullptr ? n.inputs[0] : inner->inputs[0];
  if (same_dims(dims_of(g, from), dims_of(g, n.outputs[0]))) return same(g, n, from);
  if (inner == nullptr) return std::nullopt;
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], patch.add(n.as<ops::View>(), {from}));
  return patch;
}

std::optional<Outcome> transpose(const Graph& g, const Node& n) {
  const Node* inner = made_by(g, n.inputs[0], "Transpose");
  if (inner == nullptr) return std::nullopt;
  const std::vector<int64_t> first = perm_of(g, *inner);
  ops::Transpose both;
  for (const int64_t axis : perm_of(g, n)) both.perm.push_back(first[static_cast<size_t>(axis)]);
  if (std::ranges::is_sorted(both.perm)) return same(g, n, inner->inputs[0]);
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], patch.add(both, {inner->inputs[0]}));
  return patch;
}

// A transpose that only moves axes of extent 1 leaves the elements in their order.
std::optional<Outcome> still(const Graph& g, const Node& n) {
  const std::vector<Dim>& dims = dims_of(g, n.inputs[0]);
  int64_t last = -1;
  for (const int64_t axis : perm_of(g, n)) {
    if (dims[static_cast<size_t>(axis)] == Dim(1)) continue;
    if (axis < last) return std::nullopt;
    last = axis;
  }
  if (!bound_at(g, n.inputs[0], dims)) return std::nullopt;
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], patch.add(ops::View{dims_of(g, n.outputs[0])}, {n.inputs[0]}));
  return patch;
}

std::optional<Outcome> merge(const Graph& g, const Node& n) {
  if (n.is("planck.View")) return view(g, n);
  if (!n.is("Transpose")) return std::nullopt;
  auto outcome = transpose(g, n);
  return outcome ? std::move(outcome) : still(g, n);
}

}  // namespace

Pass pass_merge_views() { return node_pass("merge_views", merge); }

}  // namespace planck
