// Pictures read at places that a run computes. Kernels take them as they lie: with channels as
// neighbours a sample is a sum of runs of channels, else one of elements of each plane.
#include "builder/lowering.h"
#include "builder/select.h"
#include "kernels/grid_sample/rows.h"
#include "ops/sample.h"

namespace planck {

std::string lower_grid_sample(Lowering& l, const Node& n) {
  const auto& op = n.as<ops::GridSample>();
  if (l.graph.value(n.inputs[0]).type().rank() != 4) return "only pictures of two axes have kernels";
  if (!all_f32(l, n)) return "only fp32 pictures have kernels";
  if (op.mode == "cubic") return "the mode cubic has no kernel";
  GridSampleParams params{op.mode == "nearest", op.align_corners != 0, SamplePadding::zeros};
  if (op.padding_mode == "border") params.padding = SamplePadding::border;
  if (op.padding_mode == "reflection") params.padding = SamplePadding::reflection;
  const std::vector<int64_t> order = channels_last(4);
  const int32_t x = l.permuted(l.value(n.inputs[0]), order), grid = l.value(n.inputs[1]);
  const bool neighbours = l.at(x).strides.back() == Dim(1) && l.at(x).shape.back() != Dim(1);
  const int32_t out = neighbours ? l.make_permuted_output(n, 0, order)
                                 : l.permuted(l.make_output(n, 0), order);
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

}  // namespace planck
