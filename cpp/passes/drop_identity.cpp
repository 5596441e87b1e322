// passes/drop_identity.cpp: nodes whose result is their first input.
#include <algorithm>
#include <optional>

#include "ops/cast.h"
#include "ops/identity.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// Dropout's mask is a second result, which must have no reader. A mode that only the run knows may
// be training; inference has refused one that is known to be.
bool is_plain_copy(const Graph& g, const Node& n) {
  if (n.is("Identity")) return true;
  if (!n.is("Dropout")) return false;
  if (n.input(2) != kAbsent && !g.value(n.input(2)).fact.dims()) return false;
  return n.outputs.size() < 2 || n.outputs[1] == kAbsent || g.uses(n.outputs[1]) == 0;
}

bool keeps_type(const Graph& g, const Node& n) {
  return n.is("Cast") && dtype_of(g, n.inputs[0]) == dtype_of(g, n.outputs[0]);
}

bool is_still(const Graph& g, const Node& n) {
  if (!n.is("Transpose")) return false;
  const std::vector<int64_t> perm = perm_of(g, n);
  return std::ranges::is_sorted(perm);
}

// Ops that only set a shape, where the shape is the one that was.
bool keeps_shape(const Graph& g, const Node& n) {
  static constexpr std::string_view kOps[] = {"Reshape", "Expand", "Flatten", "planck.View",
                                              "planck.Broadcast"};
  return std::ranges::any_of(kOps, [&](std::string_view op) { return n.is(op); }) &&
         same_dims(dims_of(g, n.inputs[0]), dims_of(g, n.outputs[0]));
}

// All of the axis, once.
bool keeps_elements(const Graph& g, const Node& n) {
  if (n.is("Concat")) return n.inputs.size() == 1;
  if (n.is("Split")) return n.outputs.size() == 1;
  if (!n.is("Pad") && !n.is("Tile")) return false;
  const auto counts = g.value(n.inputs[1]).fact.dims();
  const Dim neutral(n.is("Tile") ? 1 : 0);
  return counts && std::ranges::all_of(*counts, [&](const Dim& d) { return d == neutral; });
}

std::optional<Outcome> drop(const Graph& g, const Node& n) {
  if (!is_plain_copy(g, n) && !keeps_type(g, n) && !is_still(g, n) && !keeps_shape(g, n) &&
      !keeps_elements(g, n)) {
    return std::nullopt;
  }
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], n.inputs[0]);
  return patch;
}

}  // namespace

Pass pass_drop_identity() { return node_pass("drop_identity", drop); }

}  // namespace planck
