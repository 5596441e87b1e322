// passes/expand_guard.cpp: Expand(x, Where(sizes == -1, 1, sizes)) -> Expand(x, sizes).
// Exporters write the guard where they cannot prove a size positive, and with it every extent
// behind it would be known in the run alone. A size that the guard would replace is an extent below
// 0 here, so that such a run fails when its shapes are bound.
#include <algorithm>
#include <optional>

#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

bool all_negative(const Graph& g, ValueId v) {
  const auto numbers = g.value(v).fact.dims();
  return numbers && std::ranges::all_of(
                        *numbers, [](const Dim& d) { return d.is_constant() && d.constant() < 0; });
}

// What the guard chooses from where it replaces nothing.
ValueId guarded(const Graph& g, ValueId sizes) {
  const Node* where = made_by(g, sizes, "Where");
  const Node* equal = where == nullptr ? nullptr : made_by(g, where->inputs[0], "Equal");
  if (equal == nullptr) return kAbsent;
  const ValueId kept = where->inputs[2];
  const ValueId replaced = other_input(*equal, kept);
  const bool compared = equal->inputs[0] == kept || equal->inputs[1] == kept;
  return compared && replaced != kAbsent && all_negative(g, replaced) ? kept : kAbsent;
}

std::optional<Outcome> expand(const Graph& g, const Node& n) {
  if (!n.is("Expand") || g.value(n.inputs[1]).fact.dims()) return std::nullopt;
  const ValueId sizes = guarded(g, n.inputs[1]);
  if (sizes == kAbsent || !g.value(sizes).fact.dims()) return std::nullopt;
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], patch.add("Expand", {n.inputs[0], sizes}));
  return patch;
}

}  // namespace

Pass pass_expand_guard() { return node_pass("expand_guard", expand); }

}  // namespace planck
