// passes/fusions/table_function.cpp; f(table[ids]) -> f(table)[ids] for element-wise f: the build
// makes the function of a constant table that is no longer than the list of ids.
#include "ops/gather.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// A constant as it stands beside a row of the table; nothing where it tells ids apart.
std::optional<Tensor> beside_row(const Tensor& constant, int64_t row_rank) {
  const Shape& shape = constant.shape();
  const auto first = shape.end() - std::min(row_rank, constant.rank());
  if (std::any_of(shape.begin(), first, [](int64_t extent) { return extent != 1; })) {
    return std::nullopt;
  }
  return constant.reshaped({first, shape.end()});
}

// Functions of the table before this one are folded after all fusions.
bool becomes_constant(const Graph& g, ValueId table) {
  const Node* made = g.producer(table);
  return is_constant(g, table) || (made != nullptr && maps_elements(*made) &&
                                   std::ranges::all_of(made->inputs, [&](ValueId v) {
                                     return v == kAbsent || becomes_constant(g, v);
                                   }));
}

bool is_read_by(const Graph& g, ValueId v, const Node& n) {
  return !g.is_output(v) &&
         std::ranges::all_of(g.value(v).readers, [&](NodeId reader) { return reader == n.id; });
}

// Whether every run that reads anything reads as many rows as there are.
bool is_as_long(const Dim& ids, const Dim& rows) {
  SymbolBounds bounds;
  for (const std::string& symbol : ids.symbols()) bounds[symbol].low = 1;
  return (ids - rows).bounds(bounds).low >= 0;
}

std::optional<Outcome> rewrite(const Graph& g, const Node& n) {
  const ValueId rows = variable_of_map(g, n);
  const Node* gather = rows == kAbsent ? nullptr : made_by(g, rows, "Gather");
  if (gather == nullptr || !becomes_constant(g, gather->inputs[0])) return std::nullopt;
  const std::vector<Dim>& table = dims_of(g, gather->inputs[0]);
  if (gather->as<ops::Gather>().axis != 0) return refuse("it picks no rows of the table");
  if (!is_read_by(g, rows, n)) return refuse(label(g, rows), " is also read elsewhere");
  const Dim ids = product(dims_of(g, gather->inputs[1]));
  if (!is_as_long(ids, table[0])) {
    return refuse("the table has ", table[0], " rows, and ", ids, " are read");
  }
  Patch patch(g, n.id);
  std::vector<ValueId> inputs;
  for (const ValueId v : n.inputs) {
    inputs.push_back(v == rows ? gather->inputs[0] : v);
    if (v == rows || v == kAbsent) continue;
    const auto constant =
        beside_row(*g.value(v).fact.constant, static_cast<int64_t>(table.size()) - 1);
    if (!constant) return refuse(label(g, v), " differs between the ids");
    inputs.back() = patch.constant(*constant);
  }
  const ValueId whole = patch.add(n.op->text(), std::move(inputs), n.attrs);
  patch.replace(n.outputs[0], patch.add(ops::Gather{0}, {whole, gather->inputs[1]}));
  return patch;
}

}  // namespace

Pass fusion_table_function() { return node_pass("table_function", rewrite); }

}  // namespace planck
