// passes/fusions/trilu.cpp; the triangle of a matrix as a choice by the places of rows and columns
#include "ops/trilu.h"

#include <cmath>

#include "ops/range.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() { return op("Trilu", {var("x"), either({constant("k"), absent()})}); }

Outcome rewrite(const Graph& g, const Match& m) {
  const Value& x = m["x"];
  const std::vector<Dim>& dims = x.type().dims;
  const auto k = m.has("k") ? scalar_of(g, m["k"].id) : std::optional(0.0);
  if (!k || std::abs(*k) > 0x1p31) return refuse("the diagonal is no number of modest size");
  const Dim &rows = dims[dims.size() - 2], &columns = dims.back();
  if (!bound_at(g, x.id, std::vector<Dim>{rows, columns})) {
    return refuse("the run alone knows the shape ", x.type());
  }
  Patch patch(g, m.at());
  const ValueId row = patch.add(ops::Count{Dim(static_cast<int64_t>(*k)), 1, rows}, {});
  const ValueId below = patch.add(ops::View{{rows, Dim(1)}}, {row});
  const ValueId column = patch.add(ops::Count{0, 1, columns}, {});
  const bool upper = m.node().as<ops::Trilu>().upper != 0;
  const ValueId kept = patch.add(upper ? "GreaterOrEqual" : "LessOrEqual", {column, below});
  const ValueId zero = patch.constant(filled(x.type().dtype, {}, 0));
  patch.replace(m.root(), patch.add("Where", {kept, x.id, zero}));
  return patch;
}

}  // namespace

PLANCK_FUSION(trilu)

}  // namespace planck
