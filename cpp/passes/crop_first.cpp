// passes/crop_first.cpp: a part of a result is the result of parts, and work on the rest is lost.
#include <algorithm>
#include <optional>

#include "ops/concat.h"
#include "ops/slice.h"
#include "ops/support.h"
#include "ops/transpose.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

const ops::Crop& crop_of(const Node& n) { return n.as<ops::Crop>(); }

ops::Crop on_axis(const Node& n, int64_t axis) {
  ops::Crop crop = crop_of(n);
  crop.axes = {axis};
  return crop;
}

// Whether everybody who reads the value reads the same part of it.
bool read_in_this_part(const Graph& g, ValueId v, const Node& n) {
  if (g.is_output(v)) return false;
  return std::ranges::all_of(g.value(v).readers, [&](NodeId id) {
    const Node& other = g.node(id);
    if (!other.is("planck.Crop")) return false;
    const ops::Crop &a = crop_of(n), &b = crop_of(other);
    return a.axes == b.axes && a.starts == b.starts && a.ends == b.ends && a.steps == b.steps;
  });
}

// Marks the places that the part reads; false where one is marked already or not known.
bool mark(std::vector<bool>& places, const ops::Crop& crop) {
  const auto start = crop.starts[0].known(), end = crop.ends[0].known();
  if (!start || !end || *start < 0 || *end > static_cast<int64_t>(places.size())) return false;
  for (int64_t i = *start; i < *end; i += crop.steps[0]) {
    if (places[static_cast<size_t>(i)]) return false;
    places[static_cast<size_t>(i)] = true;
  }
  return true;
}

// Whether only parts of the value are read, no element twice, and only constants have to be cut for
// them: even and odd columns of x / speeds.
bool cuts_constants(const Graph& g, const Node& n, const Node& made) {
  const std::vector<Dim>& out = dims_of(g, made.outputs[0]);
  const auto axis = static_cast<size_t>(crop_of(n).axes[0]);
  const auto extent = out[axis].known();
  constexpr int64_t kMost = 1 << 16;
  if (!extent || *extent > kMost || g.is_output(made.outputs[0])) return false;
  std::vector<bool> places(static_cast<size_t>(*extent));
  const bool apart = std::ranges::all_of(g.value(made.outputs[0]).readers, [&](NodeId id) {
    const Node& other = g.node(id);
    return other.is("planck.Crop") && crop_of(other).axes == crop_of(n).axes &&
           mark(places, crop_of(other));
  });
  return apart && std::ranges::all_of(made.inputs, [&](ValueId v) {
           if (v == kAbsent || is_constant(g, v)) return true;
           const std::vector<Dim>& dims = dims_of(g, v);
           const size_t skip = out.size() - dims.size();
           return axis < skip || dims[axis - skip] == Dim(1);
         });
}

Outcome replaced(const Node& n, const Node& made, std::vector<ValueId> inputs, Patch patch) {
  patch.replace(n.outputs[0], patch.add(made.op->text(), std::move(inputs), made.attrs));
  return patch;
}

// The input of a Concat in which the part lies.
std::optional<Outcome> part_of_piece(const Graph& g, const Node& n, const Node& concat) {
  const ops::Crop& crop = crop_of(n);
  const auto axis = static_cast<size_t>(crop.axes[0]);
  Dim at(0);
  for (const ValueId piece : concat.inputs) {
    const Dim extent = dims_of(g, piece)[axis];
    const Dim start = crop.starts[0] - at, end = crop.ends[0] - at;
    at = at + extent;
    if (!at_least(start, 0) || !at_least(extent - end, 0)) continue;
    Patch patch(g, n.id);
    if (start == Dim(0) && end == extent && crop.steps[0] == 1) {
      patch.replace(n.outputs[0], piece);
      return patch;
    }
    if (!bound_at(g, piece, std::vector<Dim>{start, end})) return std::nullopt;
    patch.replace(n.outputs[0],
                  patch.add(ops::Crop{crop.axes, {start}, {end}, crop.steps}, {piece}));
    return patch;
  }
  return std::nullopt;
}

// The axis of a View's input that stands for this one of its output: what lies before it and
// itself are the same.
std::optional<size_t> axis_before_view(const std::vector<Dim>& in, const std::vector<Dim>& out,
                                       size_t axis) {
  const Dim before = product(std::span(out).first(axis));
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i] == out[axis] && product(std::span(in).first(i)) == before) return i;
  }
  return std::nullopt;
}

std::optional<Outcome> before_view(const Graph& g, const Node& n, const Node& view) {
  const auto axis = axis_before_view(dims_of(g, view.inputs[0]), dims_of(g, view.outputs[0]),
                                     static_cast<size_t>(crop_of(n).axes[0]));
  if (!axis) return std::nullopt;
  Patch patch(g, n.id);
  const ValueId part = patch.add(on_axis(n, static_cast<int64_t>(*axis)), {view.inputs[0]});
  patch.replace(n.outputs[0], patch.add(ops::View{dims_of(g, n.outputs[0])}, {part}));
  return patch;
}

std::optional<Outcome> before_transpose(const Graph& g, const Node& n, const Node& transpose) {
  const int64_t axis = perm_of(g, transpose)[static_cast<size_t>(crop_of(n).axes[0])];
  Patch patch(g, n.id);
  const ValueId part = patch.add(on_axis(n, axis), {transpose.inputs[0]});
  return replaced(n, transpose, {part}, std::move(patch));
}

// Crops every input that has the axis; nothing where one may or may not broadcast along it.
std::optional<Outcome> before_inputs(const Graph& g, const Node& n, const Node& made) {
  const std::vector<Dim>& out = dims_of(g, made.outputs[0]);
  const auto axis = static_cast<size_t>(crop_of(n).axes[0]);
  Patch patch(g, n.id);
  std::vector<ValueId> inputs;
  for (const ValueId v : made.inputs) {
    inputs.push_back(v);
    if (v == kAbsent) continue;
    const std::vector<Dim>& dims = dims_of(g, v);
    const size_t skip = out.size() - dims.size();
    if (axis < skip || (dims[axis - skip] == Dim(1) && out[axis] != Dim(1))) continue;
    if (dims[axis - skip] != out[axis]) return std::nullopt;
    inputs.back() = patch.add(on_axis(n, static_cast<int64_t>(axis - skip)), {v});
  }
  return replaced(n, made, std::move(inputs), std::move(patch));
}

std::optional<Outcome> before_product(const Graph& g, const Node& n, const Node& product) {
  const int64_t axis = crop_of(n).axes[0], rank = g.value(product.outputs[0]).type().rank();
  if (!is_constant(g, product.inputs[1]) || dims_of(g, product.inputs[1]).size() != 2 ||
      g.value(product.inputs[0]).type().rank() != rank || axis + 1 >= rank) {
    return std::nullopt;
  }
  Patch patch(g, n.id);
  const ValueId part = patch.add(on_axis(n, axis), {product.inputs[0]});
  return replaced(n, product, {part, product.inputs[1]}, std::move(patch));
}

std::optional<Outcome> crop_first(const Graph& g, const Node& n) {
  if (!n.is("planck.Crop") || crop_of(n).axes.size() != 1) return std::nullopt;
  const Node* made = g.producer(n.inputs[0]);
  if (made == nullptr) return std::nullopt;
  // What moves no data may be done twice.
  if (made->is("planck.View")) return before_view(g, n, *made);
  if (made->is("Transpose")) return before_transpose(g, n, *made);
  if (made->is("Concat")) {
    const int64_t rank = g.value(n.inputs[0]).type().rank();
    const bool same = checked_axis(made->as<ops::Concat>().axis, rank) == crop_of(n).axes[0];
    if (same) return part_of_piece(g, n, *made);
  }
  const std::string op = made->op->text();
  const bool elementwise = maps_elements(*made);
  if (!elementwise && op != "MatMul") return std::nullopt;
  if (!read_in_this_part(g, n.inputs[0], n) && !(elementwise && cuts_constants(g, n, *made))) {
    return refuse(label(g, n.inputs[0]), " is also read elsewhere");
  }
  return elementwise ? before_inputs(g, n, *made) : before_product(g, n, *made);
}

}  // namespace

Pass pass_crop_first() { return node_pass("crop_first", crop_first); }

}  // namespace planck
