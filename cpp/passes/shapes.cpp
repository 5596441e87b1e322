// passes/shapes.cpp: ops that read a shape tensor become ours, which hold the shape as Dims. The
// Shape, Gather and Concat nodes behind the tensor then have no reader.
#include <algorithm>
#include <optional>
#include <variant>

#include "base/guard.h"
#include "ops/expand.h"
#include "ops/fill.h"
#include "ops/range.h"
#include "ops/slice.h"
#include "ops/support.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

constexpr std::string_view kViews[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"};

Outcome replaced(const Graph& g, const Node& n, const auto& op, std::vector<ValueId> inputs) {
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], patch.add(op, std::move(inputs)));
  return patch;
}

Refusal unknown_shape(const Graph& g, ValueId v) {
  return refuse("the run alone knows the shape ", g.value(v).type());
}

struct Wish {  // of a Slice for one axis
  int64_t axis, step;
  Dim start, end;
};

// What Crop needs of one axis of a Slice; nothing where clamping cannot be decided.
struct Window {
  Dim start, end;
};
std::optional<Window> cropped(const Wish& wish, const Dim& extent) {
  constexpr int64_t kToTheEnd = INT32_MAX;  // how exporters spell it; no extent is as large
  const auto resolve = [&](const Dim& at) -> std::optional<Dim> {
    if (at.is_constant() && at.constant() >= kToTheEnd) return extent;
    if (at.is_constant() && at.constant() < 0) return larger(extent + at, 0);
    if (at_least(at, 0)) return smaller(at, extent);
    // extent - 3 counts from the front: it is an extent that the exporter computed.
    return (at - extent).is_constant() ? std::optional(at) : std::nullopt;
  };
  const auto first = resolve(wish.start);
  auto last = resolve(wish.end);
  // As inference has it: an end below 0 makes the crop's own extent negative, which is refused.
  const bool from_back = wish.end.is_constant() && wish.end.constant() < 0;
  if (from_back && !extent.is_constant()) last = extent + wish.end;
  if (!last && wish.step == 1 && wish.end.bounds({}).high > 0) last = smaller(wish.end, extent);
  if (!first || !last) return std::nullopt;
  return Window{*first, *last};
}

using DimList = std::vector<Dim>;
std::optional<DimList> known_input(const Graph& g, const Node& n, size_t i) {
  return n.input(i) == kAbsent ? std::nullopt : g.value(n.input(i)).fact.dims();
}

// Every axis of a Slice; a refusal where a number that Crop needs is not known.
std::variant<std::vector<Wish>, Refusal> wishes_of(const Graph& g, const Node& n) {
  const auto starts = known_input(g, n, 1), ends = known_input(g, n, 2);
  if (!starts || !ends) return refuse("starts or ends are known in the run alone");
  const auto axes = known_input(g, n, 3), steps = known_input(g, n, 4);
  const auto rank = g.value(n.inputs[0]).type().rank();
  std::vector<Wish> out;
  for (size_t i = 0; i < starts->size(); ++i) {
    const auto axis = n.input(3) == kAbsent ? std::optional(static_cast<int64_t>(i))
                      : axes                ? (*axes)[i].known()
                                            : std::nullopt;
    const auto step = n.input(4) == kAbsent ? std::optional(int64_t{1})
                      : steps               ? (*steps)[i].known()
                                            : std::nullopt;
    if (!axis || !step) return refuse("an axis or a step is known in the run alone");
    if (*step < 1) return refuse("the step ", *step, " goes backwards");
    out.push_back({checked_axis(*axis, rank), *step, (*starts)[i], (*ends)[i]});
  }
  return out;
}

std::optional<Outcome> slice(const Graph& g, const Node& n) {
  const auto wishes = wishes_of(g, n);
  if (const auto* refusal = std::get_if<Refusal>(&wishes)) return *refusal;
  const DimList& dims = dims_of(g, n.inputs[0]);
  ops::Crop crop;
  DimList needed;
  for (Wish wish : std::get<0>(wishes)) {
    const Dim& extent = dims[static_cast<size_t>(wish.axis)];
    if (ops::is_open_end(wish.end, g.value(n.inputs[0]).type(), wish.axis)) wish.end = extent;
    const auto range = cropped(wish, extent);
    if (!range || at_least(range->start - range->end, 1)) {
      return refuse("[", wish.start, ", ", wish.end, ") of ", extent,
                    " is clamped in the run alone");
    }
    if (range->start == Dim(0) && range->end == extent && wish.step == 1) continue;  // all of it
    crop.axes.push_back(wish.axis);
    crop.starts.push_back(range->start);
    crop.ends.push_back(range->end);
    crop.steps.push_back(wish.step);
    needed.insert(needed.end(), {range->start, range->end});
  }
  if (!bound_at(g, n.inputs[0], needed)) return unknown_shape(g, n.outputs[0]);
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], crop.axes.empty() ? n.inputs[0] : patch.add(crop, {n.inputs[0]}));
  return patch;
}

std::optional<Outcome> range(const Graph& g, const Node& n) {
  const TensorType& type = g.value(n.outputs[0]).type();
  const auto start = known_input(g, n, 0), step = known_input(g, n, 2);
  if (!is_integer(type.dtype) || !start || !step) return refuse("start or step is not known");
  const DimList needed{start->front(), step->front(), type.dims[0]};
  if (!bound_at(g, n.inputs[0], needed)) return unknown_shape(g, n.outputs[0]);
  return replaced(
      g, n, ops::Count{start->front(), step->front(), type.dims[0], info(type.dtype).onnx}, {});
}

// Tile repeats a row of blocks: each repeated axis gets an axis of 1 in front, which is stretched.
std::optional<Outcome> tile(const Graph& g, const Node& n) {
  const auto repeats = known_input(g, n, 1);
  if (!repeats) return refuse("the repeats are known in the run alone");
  if (!bound_at(g, n.inputs[0], dims_of(g, n.outputs[0]))) return unknown_shape(g, n.outputs[0]);
  const DimList& dims = dims_of(g, n.inputs[0]);
  DimList apart, stretched;
  for (size_t i = 0; i < dims.size(); ++i) {
    const Dim& by = (*repeats)[i];
    const bool plain = by == Dim(1) || dims[i] == Dim(1);
    if (!plain) {
      apart.emplace_back(1);
      stretched.push_back(by);
    }
    apart.push_back(dims[i]);
    stretched.push_back(dims[i] == Dim(1) ? by : dims[i]);
  }
  const auto rank = static_cast<int64_t>(apart.size());
  if (rank > current_limits().rank) return refuse("with its repeats apart it has ", rank, " axes");
  Patch patch(g, n.id);
  const ValueId blocks = patch.add(ops::View{apart}, {n.inputs[0]});
  const ValueId row = patch.add(ops::Broadcast{stretched}, {blocks});
  patch.replace(n.outputs[0], patch.add(ops::View{dims_of(g, n.outputs[0])}, {row}));
  return patch;
}

std::optional<Outcome> shapes(const Graph& g, const Node& n) {
  if (n.outputs.empty() || n.outputs[0] == kAbsent) return std::nullopt;
  const DimList& dims = dims_of(g, n.outputs[0]);
  const auto bound = [&] { return bound_at(g, n.input(0), dims); };
  if (std::ranges::any_of(kViews, [&](std::string_view op) { return n.is(op); })) {
    if (!bound()) return unknown_shape(g, n.outputs[0]);
    return replaced(g, n, ops::View{dims}, {n.inputs[0]});
  }
  if (n.is("Expand")) {
    if (!bound()) return unknown_shape(g, n.outputs[0]);
    return replaced(g, n, ops::Broadcast{dims}, {n.inputs[0]});
  }
  if (n.is("ConstantOfShape")) {
    if (!bound()) return unknown_shape(g, n.outputs[0]);
    const auto& fill = n.as<ops::ConstantOfShape>();
    return replaced(g, n, ops::Fill{dims, fill.value, fill.dtype}, {});
  }
  if (n.is("Slice")) return slice(g, n);
  if (n.is("Range")) return range(g, n);
  if (n.is("Tile")) return tile(g, n);
  return std::nullopt;
}

}  // namespace

Pass pass_shapes() { return node_pass("shapes", shapes); }

}  // namespace planck
