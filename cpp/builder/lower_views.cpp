// Ops that move no data: windows into the buffer of their input.
#include <cmath>

#include "builder/lowering.h"
#include "builder/select.h"
#include "kernels/layout/rows.h"
#include "ops/fill.h"
#include "ops/gather.h"
#include "ops/slice.h"
#include "ops/split.h"
#include "ops/transpose.h"
#include "passes/tools.h"

namespace planck {

std::string lower_view(Lowering& l, const Node& n) {
  const std::vector<Dim>& shape = l.graph.value(n.outputs[0]).type().dims;
  // Whether [n,4] holds whole rows of 8 the run knows: a view would leave the rest out in silence.
  if (product(l.graph.value(n.inputs[0]).type().dims) != product(shape)) {
    return lower_counted_view(l, n);
  }
  int32_t source = l.value(n.inputs[0]);
  auto strides = reshaped_strides(l.at(source), shape);
  if (!strides) {
    if (splits_batch(l, n)) return "";
    source = l.dense(source);
    strides = dense_strides(shape);
  }
  PlanValue window = l.at(source);
  window.strides = std::move(*strides);
  l.make_view(n, 0, std::move(window), source);
  return "";
}

std::string lower_crop(Lowering& l, const Node& n) {
  const auto& crop = n.as<ops::Crop>();
  const int32_t source = l.value(n.inputs[0]);
  PlanValue window = l.at(source);
  for (size_t i = 0; i < crop.axes.size(); ++i) {
    const auto axis = static_cast<size_t>(crop.axes[i]);
    window.offset = window.offset + crop.starts[i] * window.strides[axis];
    window.strides[axis] = window.strides[axis] * Dim(crop.steps[i]);
  }
  l.make_view(n, 0, std::move(window), source);
  return "";
}

std::string lower_broadcast(Lowering& l, const Node& n) {
  const std::vector<Dim>& shape = l.graph.value(n.outputs[0]).type().dims;
  const int32_t source = l.value(n.inputs[0]);
  PlanValue window = l.at(source);
  std::vector<Dim> strides(shape.size(), Dim(0));
  const size_t skip = shape.size() - window.shape.size();
  for (size_t i = 0; i < window.shape.size(); ++i) {
    const Dim& from = window.shape[i];
    const Dim& to = shape[skip + i];
    if (from == to || from == max(to, Dim(0))) {  // no extent is below 0
      strides[skip + i] = window.strides[i];
    } else if (from != Dim(1)) {
      return cat("extent ", from, " against ", to, " is known at run time only");
    }
  }
  window.strides = std::move(strides);
  l.make_view(n, 0, std::move(window), source);
  return "";
}

// One number, seen everywhere.
std::string lower_fill(Lowering& l, const Node& n) {
  const auto& fill = n.as<ops::Fill>();
  const TensorType& type = l.graph.value(n.outputs[0]).type();
  constexpr double kMost = 0x1p62;
  if (!is_float(type.dtype) && !(std::abs(fill.value) < kMost)) return "its number does not fit";
  const int32_t source = l.make_constant({"", filled(type.dtype, {}, fill.value), {}});
  PlanValue window = l.at(source);
  window.strides.assign(type.dims.size(), Dim(0));
  l.make_view(n, 0, std::move(window), source);
  return "";
}

std::string lower_transpose(Lowering& l, const Node& n) {
  const int32_t source = l.value(n.inputs[0]);
  PlanValue window = l.at(source);
  std::vector<int64_t> perm = n.as<ops::Transpose>().perm;
  const auto rank = static_cast<int64_t>(window.shape.size());
  if (perm.empty()) {
    for (int64_t i = rank; i-- > 0;) perm.push_back(i);
  }
  const std::vector<Dim> strides = window.strides;
  for (size_t i = 0; i < perm.size(); ++i) {
    window.strides[i] = strides[static_cast<size_t>(perm[i])];
  }
  l.make_view(n, 0, std::move(window), source);
  return "";
}

std::string lower_split(Lowering& l, const Node& n) {
  const int32_t source = l.value(n.inputs[0]);
  const auto axis = static_cast<size_t>(
      checked_axis(n.as<ops::Split>().axis, static_cast<int64_t>(l.at(source).shape.size())));
  Dim start(0);
  for (size_t i = 0; i < n.outputs.size(); ++i) {
    if (n.outputs[i] == kAbsent) return "an output of the split is absent";
    PlanValue window = l.at(source);
    window.offset = window.offset + start * window.strides[axis];
    l.make_view(n, i, std::move(window), source);
    start = start + l.graph.value(n.outputs[i]).type().dims[axis];
  }
  return "";
}

// One constant index along an axis is a window; anything else looks rows up.
std::string lower_gather(Lowering& l, const Node& n) {
  const auto index = l.graph.value(n.inputs[1]).fact.dims();
  if (!index || index->size() != 1 || !index->front().known() ||
      l.graph.value(n.inputs[1]).type().rank() > 0) {
    return lower_index(l, n);
  }
  const int32_t source = l.value(n.inputs[0]);
  PlanValue window = l.at(source);
  const auto axis = static_cast<size_t>(
      checked_axis(n.as<ops::Gather>().axis, static_cast<int64_t>(window.shape.size())));
  const int64_t at = *index->front().known();
  const Dim row = at < 0 ? window.shape[axis] + Dim(at) : Dim(at);
  window.offset = window.offset + row * window.strides[axis];
  window.strides.erase(window.strides.begin() + static_cast<std::ptrdiff_t>(axis));
  l.make_view(n, 0, std::move(window), source);
  return "";
}

std::string lower_cast(Lowering& l, const Node& n) {
  const DType from = l.graph.value(n.inputs[0]).type().dtype;
  const DType to = l.graph.value(n.outputs[0]).type().dtype;
  if (const Node* compare = l.graph.producer(n.inputs[0]);
      compare != nullptr && to == DType::f32 && ends_in_cast(l.graph, *compare)) {
    lower_compared(l, *compare, n);
    return "";
  }
  if (!conversion_of(from, to)) return cat("no kernel converts ", from, " to ", to);
  const int32_t source = l.dense(l.value(n.inputs[0]));
  const auto choice = choose_by_isa(convert_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = CopyParams{},
                 .inputs = {source},
                 .outputs = {l.make_output(n, 0)},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

}  // namespace planck
