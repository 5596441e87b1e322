// passes/dead_code.cpp: nodes that no output needs.
#include <algorithm>
#include <optional>

#include "passes/passes.h"

namespace planck {

namespace {

std::optional<Outcome> dead(const Graph& g, const Node& n) {
  const bool read =
      std::ranges::any_of(n.outputs, [&](ValueId v) { return v != kAbsent && g.uses(v) > 0; });
  if (read) return std::nullopt;
  Patch patch(g, n.id);
  patch.remove(n.id);
  return patch;
}

}  // namespace

Pass pass_dead_code() { return node_pass("dead_code", dead); }

}  // namespace planck
