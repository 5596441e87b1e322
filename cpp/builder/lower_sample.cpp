// Pictures read at places that a run computes, and sums over channels. Kernels take them as they
// lie: with channels as neighbours a sample is a sum of runs of channels, else one of elements of
// each plane.
#include <algorithm>
#include <numeric>

#include "builder/lowering.h"
#include "builder/select.h"
#include "kernels/grid_sample/rows.h"
#include "kernels/lrn/rows.h"
#include "kernels/roi_align/rows.h"
#include "ops/pool.h"
#include "ops/sample.h"
#include "passes/tools.h"

namespace planck {

namespace {

std::string why_no_grid_kernel(const Lowering& l, const Node& n) {
  const bool plane = l.graph.value(n.inputs[0]).type().rank() == 4;
  if (!plane) return "only pictures of two axes have kernels";
  if (!all_f32(l, n)) return "only fp32 pictures have kernels";
  return n.as<ops::GridSample>().mode == "cubic" ? "the mode cubic has no kernel" : "";
}

}  // namespace

bool splits_batch(Lowering& l, const Node& view) {
  const ValueId id = view.outputs[0];
  const Node* reader = only_reader(l.graph, id);
  const bool sampled = reader != nullptr && reader->is("GridSample") && reader->inputs[0] == id &&
                       l.graph.uses(id) == 1 && why_no_grid_kernel(l, *reader).empty();
  if (!sampled) return false;
  const int32_t source = l.value(view.inputs[0]);
  const std::vector<Dim>& dims = l.graph.value(id).type().dims;
  const std::vector<Dim>& from = l.at(source).shape;
  const auto heads = from.empty() ? std::nullopt : exact_div(dims[0], from[0]);
  if (!heads) return false;
  const std::vector<Dim> shape{from[0], *heads, dims[1], dims[2], dims[3]};
  const auto strides = reshaped_strides(l.at(source), shape);
  if (!strides || (*strides)[2] != Dim(1)) return false;
  l.split_batches[id] = l.permuted(l.restrided(source, shape, *strides), {0, 1, 3, 4, 2});
  return true;
}

std::string lower_grid_sample(Lowering& l, const Node& n) {
  if (std::string why = why_no_grid_kernel(l, n); !why.empty()) return why;
  const auto& op = n.as<ops::GridSample>();
  GridSampleParams params{op.mode == "nearest", op.align_corners != 0, SamplePadding::zeros};
  if (op.padding_mode == "border") params.padding = SamplePadding::border;
  if (op.padding_mode == "reflection") params.padding = SamplePadding::reflection;
  const std::vector<int64_t> order = channels_last(4);
  const auto split = l.split_batches.find(n.inputs[0]);
  const int32_t x =
      split == l.split_batches.end() ? l.permuted(l.value(n.inputs[0]), order) : split->second;
  const int32_t grid = l.value(n.inputs[1]);
  const bool neighbours = l.at(x).strides.back() == Dim(1) && l.at(x).shape.back() != Dim(1);
  const int32_t out =
      neighbours ? l.make_permuted_output(n, 0, order) : l.permuted(l.make_output(n, 0), order);
  const auto choice = choose_by_isa(grid_sample_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = params,
                 .inputs = {x, grid},
                 .outputs = {out},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

namespace {
// Whether all that reads the value takes channels last: everything else wants planes.
bool wants_channels(const Graph& g, ValueId v) {
  constexpr std::string_view kWindows[] = {"planck.Convolution", "ConvTranspose",     "MaxPool",
                                           "AveragePool",        "GlobalAveragePool", "Resize"};
  const std::vector<NodeId>& readers = g.value(v).readers;
  return !readers.empty() && std::ranges::all_of(readers, [&](NodeId reader) {
    return std::ranges::count(kWindows, g.node(reader).op->name) > 0;
  });
}

}  // namespace

std::string lower_roi_align(Lowering& l, const Node& n) {
  const auto& op = n.as<ops::RoiAlign>();
  const auto dtype = [&](size_t i) { return l.graph.value(n.inputs[i]).type().dtype; };
  if (dtype(0) != DType::f32) return "only fp32 pictures have kernels";
  if (dtype(2) != DType::s64) return cat("no kernel reads pictures of ", dtype(2));
  if (op.sampling_ratio < 0 || op.sampling_ratio > kRoiSamples) {
    return cat("no kernel takes ", op.sampling_ratio, " samples along an axis");
  }
  const RoiAlignParams params{op.mode == "max", op.coordinate_transformation_mode == "half_pixel",
                              op.sampling_ratio, op.spatial_scale};
  const std::vector<int64_t> order = channels_last(4);
  const int32_t x = l.permuted(l.value(n.inputs[0]), order);
  const bool readable = l.at(x).strides.back() == Dim(1) || l.at(x).shape.back() == Dim(1);
  const auto choice = choose_by_isa(roi_align_rows(), l.forced());
  const int32_t regions = l.dense(l.value(n.inputs[1])), pictures = l.dense(l.value(n.inputs[2]));
  l.add_step(n, {.op = "",
                 .params = params,
                 .inputs = {readable ? x : l.dense(x), regions, pictures},
                 .outputs = {wants_channels(l.graph, n.outputs[0])
                                 ? l.make_permuted_output(n, 0, order)
                                 : l.permuted(l.make_output(n, 0), order)},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

std::string lower_lrn(Lowering& l, const Node& n) {
  const auto& op = n.as<ops::LRN>();
  if (!all_f32(l, n)) return "only fp32 has kernels";
  const int32_t x = l.value(n.inputs[0]);
  std::vector<int64_t> order(l.at(x).shape.size());
  std::iota(order.begin(), order.end(), 0);
  if (const auto memory = memory_order(l.at(x))) order = *memory;
  const auto axis = std::ranges::find(order, 1) - order.begin();
  const auto choice = choose_by_isa(lrn_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = LrnParams{axis, op.size, op.alpha, op.beta, op.bias},
                 .inputs = {l.dense(l.permuted(x, order))},
                 .outputs = {l.make_permuted_output(n, 0, order)},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

}  // namespace planck
