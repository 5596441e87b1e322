// passes/simplify.cpp: arithmetic with neutral elements, picks that are crops, broadcasts that the
// reader does itself.
#include <algorithm>
#include <optional>

#include "ops/cast.h"
#include "ops/expand.h"
#include "ops/gather.h"
#include "ops/slice.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// x when the other operand changes neither its numbers nor its shape.
ValueId unchanged(const Graph& g, const Node& n) {
  const auto keeps = [&](ValueId x, ValueId neutral, double number) {
    return same_dims(dims_of(g, x), dims_of(g, n.outputs[0])) && !is_constant(g, x) &&
           is_splat(g, neutral, number);
  };
  const ValueId a = n.input(0), b = n.input(1);
  if (n.is("Add")) return keeps(a, b, 0) ? a : keeps(b, a, 0) ? b : kAbsent;
  if (n.is("Mul")) return keeps(a, b, 1) ? a : keeps(b, a, 1) ? b : kAbsent;
  if (n.is("Sub")) return keeps(a, b, 0) ? a : kAbsent;
  if (n.is("Div") || n.is("Pow")) return keeps(a, b, 1) ? a : kAbsent;
  return kAbsent;
}

// Gather of one constant place: a crop of that place, without copying indices around.
std::optional<Outcome> pick(const Graph& g, const Node& n) {
  const std::vector<Dim>& dims = dims_of(g, n.inputs[0]);
  const auto place = scalar_of(g, n.inputs[1]);
  if (!place || is_constant(g, n.inputs[0])) return std::nullopt;
  if (g.value(n.outputs[0]).fact.contents) return std::nullopt;  // of a shape: about to vanish
  const int64_t axis = checked_axis(n.as<ops::Gather>().axis, static_cast<int64_t>(dims.size()));
  const auto at = static_cast<int64_t>(*place);
  const Dim start = at < 0 ? dims[static_cast<size_t>(axis)] + at : Dim(at);
  if (!bound_at(g, n.inputs[0], dims)) {
    return refuse("the run alone knows the shape ", g.value(n.inputs[0]).type());
  }
  Patch patch(g, n.id);
  const ValueId one = patch.add(ops::Crop{{axis}, {start}, {start + 1}, {1}}, {n.inputs[0]});
  patch.replace(n.outputs[0], patch.add(ops::View{dims_of(g, n.outputs[0])}, {one}));
  return patch;
}

constexpr std::string_view kBroadcasting[] = {"Add", "Sub", "Mul", "Div", "Pow"};

// An op that broadcasts itself need not read the copies, unless they alone give it its shape.
std::optional<Outcome> read_before_broadcast(const Graph& g, const Node& n) {
  for (size_t i = 0; i < 2; ++i) {
    const Node* broadcast = made_by(g, n.inputs[i], "planck.Broadcast");
    const bool shaped = same_dims(dims_of(g, n.inputs[1 - i]), dims_of(g, n.outputs[0]));
    if (broadcast == nullptr || !shaped) continue;
    std::vector<ValueId> inputs = n.inputs;
    inputs[i] = broadcast->inputs[0];
    Patch patch(g, n.id);
    patch.replace(n.outputs[0], patch.add(n.op->text(), inputs, n.attrs));
    return patch;
  }
  return std::nullopt;
}

// Converting first converts less, and lets the reader of the broadcast go around it.
std::optional<Outcome> cast_before_broadcast(const Graph& g, const Node& n) {
  const Node* broadcast = made_by(g, n.inputs[0], "planck.Broadcast");
  if (broadcast == nullptr || g.uses(n.inputs[0]) != 1) return std::nullopt;
  Patch patch(g, n.id);
  const ValueId cast = patch.add(n.as<ops::Cast>(), {broadcast->inputs[0]});
  patch.replace(n.outputs[0], patch.add(broadcast->as<ops::Broadcast>(), {cast}));
  return patch;
}

// A choice that is the same everywhere.
std::optional<Outcome> decided(const Graph& g, const Node& n) {
  const bool yes = is_splat(g, n.inputs[0], 1), no = is_splat(g, n.inputs[0], 0);
  const ValueId chosen = n.inputs[yes ? 1 : 2];
  if (yes == no || !same_dims(dims_of(g, chosen), dims_of(g, n.outputs[0]))) return std::nullopt;
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], chosen);
  return patch;
}

std::optional<Outcome> simplify(const Graph& g, const Node& n) {
  if (n.is("Where")) return decided(g, n);
  if (n.is("Gather")) return pick(g, n);
  if (n.is("Cast")) return cast_before_broadcast(g, n);
  if (std::ranges::none_of(kBroadcasting, [&](std::string_view op) { return n.is(op); })) {
    return std::nullopt;
  }
  const ValueId x = unchanged(g, n);
  if (x == kAbsent) return read_before_broadcast(g, n);
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], x);
  return patch;
}

}  // namespace

Pass pass_simplify() { return node_pass("simplify", simplify); }

}  // namespace planck
