// passes/all_places.cpp: NonZero(ConstantOfShape([n])) of a number that is not 0 -> 0, 1, .. n-1.
// Exporters write the places of a slice so, and with NonZero every extent behind it would be known
// in the run alone.
#include <optional>

#include "ops/fill.h"
#include "ops/range.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

std::optional<Outcome> count(const Graph& g, const Node& n) {
  if (!n.is("NonZero")) return std::nullopt;
  const Node* fill = made_by(g, n.inputs[0], "ConstantOfShape");
  if (fill == nullptr || fill->as<ops::ConstantOfShape>().value == 0) return std::nullopt;
  const std::vector<Dim>& dims = dims_of(g, n.inputs[0]);
  if (dims.size() != 1 || !bound_at(g, fill->inputs[0], dims)) return std::nullopt;
  Patch patch(g, n.id);
  const ValueId line = patch.add(ops::Count{0, 1, dims[0]}, {});
  patch.replace(n.outputs[0], patch.add(ops::View{{1, dims[0]}}, {line}));
  return patch;
}

}  // namespace

Pass pass_all_places() { return node_pass("all_places", count); }

}  // namespace planck
