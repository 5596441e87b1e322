// passes/hoist_crop.cpp: Crop(table) W -> Crop(table W) with a constant table and matrix, so that a
// run cuts rows from a product that the build has made.
#include <algorithm>
#include <optional>

#include "base/guard.h"
#include "ops/slice.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// Whether the crop leaves the last axis, along which the product sums, as it is.
bool keeps_columns(const ops::Crop& crop, int64_t rank) {
  return std::ranges::none_of(crop.axes,
                              [&](int64_t axis) { return checked_axis(axis, rank) == rank - 1; });
}

// Why the build should not make the product of the whole table, or nothing.
std::string too_large(const Patch& patch, ValueId whole) {
  const TensorType& type = patch.type(whole);
  const auto elements = product(type.dims).known();
  const int64_t most = current_limits().fold_node_bytes / 8;  // its evaluation is in double
  if (elements && *elements <= most) return "";
  return cat("the product ", type, " of the whole table exceeds fold_node_bytes");
}

std::optional<Outcome> hoist(const Graph& g, const Node& n) {
  if (!n.is("MatMul")) return std::nullopt;
  const Node* cut = made_by(g, n.inputs[0], "planck.Crop");
  if (cut == nullptr || !is_constant(g, cut->inputs[0]) || !is_constant(g, n.inputs[1])) {
    return std::nullopt;
  }
  const Value &table = g.value(cut->inputs[0]), &matrix = g.value(n.inputs[1]);
  if (!is_float(table.type().dtype) || table.type().rank() < 2 || matrix.type().rank() != 2) {
    return std::nullopt;
  }
  const auto& crop = cut->as<ops::Crop>();
  if (!keeps_columns(crop, table.type().rank())) {
    return refuse("the crop cuts the columns of the table");
  }
  Patch patch(g, n.id);
  const ValueId whole = patch.add("MatMul", {table.id, matrix.id});
  if (const std::string why = too_large(patch, whole); !why.empty()) return Refusal{why};
  patch.replace(n.outputs[0], patch.add(crop, {whole}));
  return patch;
}

}  // namespace

Pass pass_hoist_crop() { return node_pass("hoist_crop", hoist); }

}  // namespace planck
