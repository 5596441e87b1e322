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

namespace planck {

std::string lower_grid_sample(Lowering& l, const Node& n) {
  const auto& op = n.as<ops::GridSample>();
  if (l.graph.value(n.inputs[0]).type().rank() != 4)
    return "only pictures of two axes have kernels";
  if (!all_f32(l, n)) return "only fp32 pictures have kernels";
  if (op.mode == "cubic") return "the mode cubic has no kernel";
  GridSampleParams params{op.mode == "nearest", op.align_corners != 0, SamplePadding::zeros};
  if (op.padding_mode == "border") params.padding = SamplePadding::border;
  if (op.padding_mode == "reflection") params.padding = SamplePadding::reflection;
  const std::vector<int64_t> order = channels_last(4);
  const int32_t x = l.permuted(l.value(n.inputs[0]), order), grid = l.value(n.inputs[1]);
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
