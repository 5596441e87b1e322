// Ops that move elements: by indices, to other places, or sorted along an axis.
#include <algorithm>
#include <numeric>

#include "builder/lowering.h"
#include "builder/select.h"
#include "kernels/index/rows.h"
#include "kernels/lane/rows.h"
#include "kernels/layout/rows.h"
#include "ops/arg.h"
#include "ops/cumsum.h"
#include "ops/gather.h"
#include "ops/onehot.h"
#include "ops/pad.h"
#include "ops/rearrange.h"
#include "ops/scatter.h"
#include "ops/support.h"
#include "ops/topk.h"
#include "passes/tools.h"

namespace planck {
namespace {

bool is_index(const Lowering& l, ValueId v) {
  const DType dtype = l.graph.value(v).type().dtype;
  return dtype == DType::s32 || dtype == DType::s64;
}

int64_t axis_of(const Lowering& l, ValueId v, int64_t axis) {
  return checked_axis(axis, l.graph.value(v).type().rank());
}

template <class Params, class Row>
void add_dense_step(Lowering& l, const Node& n, const Params& params, std::span<const Row> rows,
                    const std::vector<ValueId>& inputs) {
  const auto choice = choose_by_isa(rows, l.forced());
  Step step{.op = "",
            .params = params,
            .inputs = {},
            .outputs = {},
            .kernel = std::string(choice.row->name),
            .nodes = {},
            .rejected = choice.rejected};
  for (const ValueId v : inputs) step.inputs.push_back(l.dense(l.value(v)));
  for (size_t i = 0; i < n.outputs.size(); ++i) step.outputs.push_back(l.make_output(n, i));
  l.add_step(n, std::move(step));
}

void add_copy(Lowering& l, const Node& n, int32_t from, int32_t to) {
  const auto choice = choose_by_isa(copy_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = CopyParams{},
                 .inputs = {from},
                 .outputs = {to},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
}

int32_t add_value(Lowering& l, PlanValue v) {
  v.name.clear();
  l.plan.values.push_back(std::move(v));
  return static_cast<int32_t>(l.plan.values.size() - 1);
}

// The same memory under another shape; copied first where its strides do not allow that.
int32_t reshaped(Lowering& l, int32_t id, const std::vector<Dim>& shape) {
  auto strides = reshaped_strides(l.at(id), shape);
  if (!strides) {
    id = l.dense(id);
    strides = dense_strides(shape);
  }
  PlanValue v = l.at(id);
  v.shape = shape;
  v.strides = std::move(*strides);
  return add_value(l, std::move(v));
}

// Whether all extents but that of the axis agree as far as they are known now.
bool agree_beside(const std::vector<Dim>& a, const std::vector<Dim>& b, int64_t axis) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (static_cast<int64_t>(i) != axis && a[i] != b[i]) return false;
  }
  return true;
}

std::string index_params(const Lowering& l, const Node& n, IndexParams& p) {
  const auto& data = l.graph.value(n.inputs[0]).type();
  const auto& indices = l.graph.value(n.inputs[1]).type();
  if (n.is("Gather")) {
    p = {IndexKind::gather, axis_of(l, n.inputs[0], n.as<ops::Gather>().axis)};
  } else if (n.is("GatherND")) {
    p = {IndexKind::gather_nd, 0, n.as<ops::GatherND>().batch_dims};
  } else if (n.is("ScatterND")) {
    if (n.as<ops::ScatterND>().reduction != "none") return "it joins what it finds";
    p = {IndexKind::scatter_nd};
  } else {
    const bool scatters = n.is("ScatterElements");
    const int64_t axis =
        scatters ? n.as<ops::ScatterElements>().axis : n.as<ops::GatherElements>().axis;
    if (scatters && n.as<ops::ScatterElements>().reduction != "none") {
      return "it joins what it finds";
    }
    p = {scatters ? IndexKind::scatter_elements : IndexKind::gather_elements,
         axis_of(l, n.inputs[0], axis)};
    if (!agree_beside(data.dims, indices.dims, p.axis)) {
      return "its indices cover a part of the other axes";
    }
  }
  return "";
}

}  // namespace

std::string lower_index(Lowering& l, const Node& n) {
  if (!is_index(l, n.inputs[1])) return "its indices are neither int32 nor int64";
  IndexParams params;
  if (std::string why = index_params(l, n, params); !why.empty()) return why;
  add_dense_step(l, n, params, index_rows(), n.inputs);
  return "";
}

std::string lower_one_hot(Lowering& l, const Node& n) {
  if (!is_index(l, n.inputs[0])) return "its indices are neither int32 nor int64";
  const IndexParams params{IndexKind::one_hot, axis_of(l, n.outputs[0], n.as<ops::OneHot>().axis)};
  add_dense_step(l, n, params, index_rows(), {n.inputs[2], n.inputs[0]});
  return "";
}

namespace {

std::string why_no_lane(const Lowering& l, const Node& n) {
  const DType dtype = l.graph.value(n.inputs[0]).type().dtype;
  if (dtype == DType::f32 || dtype == DType::s32 || dtype == DType::s64) return "";
  return cat("no kernel for this op on ", dtype);
}

}  // namespace

std::string lower_cumsum(Lowering& l, const Node& n) {
  if (std::string why = why_no_lane(l, n); !why.empty()) return why;
  const auto axis = scalar_of(l.graph, n.inputs[1]);
  if (!axis) return "its axis is known at run time only";
  const auto& sum = n.as<ops::CumSum>();
  LaneParams params{LaneKind::sum, axis_of(l, n.inputs[0], static_cast<int64_t>(*axis))};
  params.exclusive = sum.exclusive != 0;
  params.reverse = sum.reverse != 0;
  add_dense_step(l, n, params, lane_rows(), {n.inputs[0]});
  return "";
}

std::string lower_topk(Lowering& l, const Node& n) {
  if (std::string why = why_no_lane(l, n); !why.empty()) return why;
  if (std::ranges::count(n.outputs, kAbsent) > 0) return "one of its outputs is absent";
  const auto& top = n.as<ops::TopK>();
  const LaneParams params{LaneKind::top, axis_of(l, n.inputs[0], top.axis), top.largest != 0};
  add_dense_step(l, n, params, lane_rows(), {n.inputs[0]});
  return "";
}

std::string lower_arg(Lowering& l, const Node& n) {
  if (std::string why = why_no_lane(l, n); !why.empty()) return why;
  const bool max = n.is("ArgMax");
  const int64_t axis = max ? n.as<ops::ArgMax>().axis : n.as<ops::ArgMin>().axis;
  const bool last =
      (max ? n.as<ops::ArgMax>().select_last_index : n.as<ops::ArgMin>().select_last_index) != 0;
  add_dense_step(l, n, LaneParams{LaneKind::arg, axis_of(l, n.inputs[0], axis), max, last},
                 lane_rows(), {n.inputs[0]});
  return "";
}

namespace {

// A window that grows or, where negative, shrinks at both ends of an axis.
struct Padding {
  int64_t axis;
  Dim before, behind;
};

// Empty: they are known at run time only, or nobody knows whether they are negative.
std::optional<std::vector<Padding>> paddings(const Lowering& l, const Node& n) {
  const auto pads = l.graph.value(n.inputs[1]).fact.dims();
  if (!pads) return std::nullopt;
  const int64_t rank = l.graph.value(n.inputs[0]).type().rank();
  std::vector<int64_t> axes;
  if (n.input(3) == kAbsent) {
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
  } else {
    const auto given = l.graph.value(n.inputs[3]).fact.dims();
    if (!given) return std::nullopt;
    for (const Dim& d : *given) axes.push_back(checked_axis(d.eval({}), rank));
  }
  std::vector<Padding> out;
  for (size_t i = 0; i < axes.size(); ++i) {
    const Padding p{axes[i], (*pads)[i], (*pads)[axes.size() + i]};
    for (const Dim& d : {p.before, p.behind}) {
      if (!d.known() && !at_least(d, 0)) return std::nullopt;
    }
    out.push_back(p);
  }
  return out;
}

Dim above_zero(const Dim& d) { return d.known() ? Dim(std::max<int64_t>(*d.known(), 0)) : d; }
Dim below_zero(const Dim& d) { return d.known() ? Dim(std::max<int64_t>(-*d.known(), 0)) : Dim(0); }

}  // namespace

// The fill everywhere, then the data in their place, in the order in which they lie in memory.
std::string lower_pad(Lowering& l, const Node& n) {
  if (n.as<ops::Pad>().mode != "constant") return "it repeats the data";
  const auto all = paddings(l, n);
  if (!all) return "its pads are known at run time only";
  int32_t x = l.value(n.inputs[0]);
  const DType dtype = l.at(x).dtype;
  const int32_t fill = n.input(2) == kAbsent ? l.make_constant({"", filled(dtype, {}, 0), {}})
                                             : l.value(n.inputs[2]);
  std::vector<int64_t> order(l.at(x).shape.size());
  std::iota(order.begin(), order.end(), 0);
  if (const auto memory = memory_order(l.at(x))) order = *memory;
  const int32_t y = l.make_permuted_output(n, 0, order);
  PlanValue repeated = l.at(fill);
  repeated.shape = l.at(y).shape;
  repeated.strides.assign(repeated.shape.size(), Dim(0));
  add_copy(l, n, add_value(l, std::move(repeated)), y);
  x = l.permuted(x, order);
  int32_t place = y;
  for (const Padding& p : *all) {
    const int64_t axis = std::ranges::find(order, p.axis) - order.begin();
    const Dim skipped = below_zero(p.before);
    const Dim left = l.at(x).shape[static_cast<size_t>(axis)] - skipped - below_zero(p.behind);
    x = l.window(x, axis, skipped, left);
    place = l.window(place, axis, above_zero(p.before), left);
  }
  add_copy(l, n, x, place);
  return "";
}

// Each axis becomes two: the repeats, which are not stepped in the source, and itself.
std::string lower_tile(Lowering& l, const Node& n) {
  const auto repeats = l.graph.value(n.inputs[1]).fact.dims();
  if (!repeats) return "its repeats are known at run time only";
  PlanValue from = l.at(l.value(n.inputs[0]));
  const int32_t made = l.make_output(n, 0);
  PlanValue to = l.at(made);
  constexpr size_t kMostRank = 16;
  if (from.shape.size() > kMostRank) return cat("it has ", from.shape.size(), " axes");
  const std::vector<Dim> shape = from.shape, strides = from.strides, out = to.strides;
  from.shape.clear(), from.strides.clear(), to.strides.clear();
  for (size_t i = 0; i < shape.size(); ++i) {
    for (const bool itself : {false, true}) {
      from.shape.push_back(itself ? shape[i] : (*repeats)[i]);
      from.strides.push_back(itself ? strides[i] : Dim(0));
      to.strides.push_back(itself ? out[i] : out[i] * shape[i]);
    }
  }
  to.shape = from.shape;
  const int32_t source = add_value(l, std::move(from));
  add_copy(l, n, source, add_value(l, std::move(to)));
  return "";
}

// A view whose elements may be more or fewer than there are: a copy of all of them in one row,
// which refuses to run where the counts differ.
std::string lower_counted_view(Lowering& l, const Node& n) {
  const int32_t source = l.dense(l.value(n.inputs[0]));
  const int32_t made = l.make_output(n, 0);
  const auto row = [&](int32_t id) {
    PlanValue v = l.at(id);
    v.shape = {product(v.shape)};
    v.strides = {Dim(1)};
    return add_value(l, std::move(v));
  };
  const int32_t from = row(source);
  add_copy(l, n, from, row(made));
  return "";
}

// Blocks of channels become blocks of pixels, or back: one copy between two views.
std::string lower_depth(Lowering& l, const Node& n) {
  const bool to_space = n.is("DepthToSpace");
  const std::string& mode =
      to_space ? n.as<ops::DepthToSpace>().mode : n.as<ops::SpaceToDepth>().mode;
  const Dim b(to_space ? n.as<ops::DepthToSpace>().blocksize : n.as<ops::SpaceToDepth>().blocksize);
  const std::vector<Dim>& x = l.graph.value(n.inputs[0]).type().dims;
  const std::vector<Dim>& y = l.graph.value(n.outputs[0]).type().dims;
  const bool first = mode == "DCR";
  std::vector<Dim> split;
  std::vector<int64_t> perm;
  if (to_space) {
    split = first ? std::vector<Dim>{x[0], b, b, y[1], x[2], x[3]}
                  : std::vector<Dim>{x[0], y[1], b, b, x[2], x[3]};
    perm = first ? std::vector<int64_t>{0, 3, 4, 1, 5, 2} : std::vector<int64_t>{0, 1, 4, 2, 5, 3};
  } else {
    split = {x[0], x[1], y[2], b, y[3], b};
    perm = first ? std::vector<int64_t>{0, 3, 5, 1, 2, 4} : std::vector<int64_t>{0, 1, 3, 5, 2, 4};
  }
  const int32_t from = l.permuted(reshaped(l, l.value(n.inputs[0]), split), perm);
  const int32_t to = l.make_output(n, 0);
  PlanValue parts = l.at(to);
  parts.shape = l.at(from).shape;
  parts.strides = dense_strides(parts.shape);
  add_copy(l, n, from, add_value(l, std::move(parts)));
  return "";
}

}  // namespace planck
