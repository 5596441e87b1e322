// Pictures read at places that a run computes: grids and regions.
#include <algorithm>

#include "backends/cpu/families.h"
#include "base/checked.h"
#include "kernels/grid_sample/rows.h"
#include "kernels/roi_align/rows.h"
#include "plan/view.h"

namespace planck {
BoundStep bind(const BindContext& c, const Step& step, const GridSampleParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &grid = c.at(step.inputs[1]);
  const BoundValue& out = c.at(step.outputs[0]);
  GridSampleArgs& args = bound.make<GridSampleArgs>();
  args.nearest = params.nearest;
  args.align_corners = params.align_corners;
  args.padding = static_cast<GridPadding>(params.padding);
  const auto row = static_cast<size_t>(x.rank() - 3);  // of x; before it one axis of images, or two
  args.images = grid.shape[0], args.rows = x.shape[row];
  args.columns = x.shape[row + 1], args.channels = x.columns();
  args.run = std::max<int64_t>(x.shape[row - 1], 1), args.run_step = x.strides[0];
  args.image_step = x.strides[row - 1], args.row_step = x.strides[row];
  args.column_step = x.strides[row + 1], args.channel_step = x.strides.back();
  args.out_rows = grid.shape[1], args.out_columns = grid.shape[2];
  args.grid_image = grid.strides[0], args.grid_row = grid.strides[1];
  args.grid_column = grid.strides[2], args.axis_step = grid.strides[3];
  const bool channels = (x.columns() <= 1 || x.strides.back() == 1) && has_rows(out);
  args.planes = out.has_planes() && (!channels || x.columns() <= 1);
  args.out_image = out.strides[0], args.out_channel = out.strides[3];
  args.out_place = args.planes ? 1 : out.row_stride();
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.grid, step.inputs[1]);
  bound.relocate(args.out, step.outputs[0]);
  plan_grid_sample(args);
  add_job(bound, grid_sample_row(step.kernel), args);
  return bound;
}

namespace {

// Regions that no kernel may see end the run before anything is read.
struct RegionCheck {
  const RoiAlignArgs* args;
  std::string where;
};

void check_regions(const void* context, int64_t, const Worker&) {
  const auto& check = *static_cast<const RegionCheck*>(context);
  const RoiAlignArgs& args = *check.args;
  const BadRegion bad = first_bad_region(args);
  if (bad.region < 0) return;
  if (!bad.outside) {
    throw with(RunError("region ", bad.region, " of ", bad.extent,
                        " elements along one axis is too large in ", check.where),
               {.expected = cat("less than ", kRoiExtent), .got = cat(bad.extent)});
  }
  const int64_t picture = args.pictures[bad.region];
  const std::string range = cat("[0, ", args.images, ")");
  throw with(RunError("picture ", picture, " of region ", bad.region, " is outside ", range, " in ",
                      check.where),
             {.expected = "a picture in " + range, .got = cat(picture)});
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const RoiAlignParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  RoiAlignArgs& args = bound.make<RoiAlignArgs>();
  args.largest = params.largest;
  args.half_pixel = params.half_pixel;
  args.samples = params.samples;
  args.scale = params.scale;
  args.images = x.shape[0], args.rows = x.shape[1];
  args.columns = x.shape[2], args.channels = x.shape[3];
  args.image_step = x.strides[0], args.row_step = x.strides[1], args.column_step = x.strides[2];
  args.count = out.shape[0], args.out_rows = out.shape[1], args.out_columns = out.shape[2];
  args.planes = !has_rows(out);
  args.out_region = out.strides[0], args.out_channel = out.strides[3];
  args.out_cell = out.row_stride();
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.regions, step.inputs[1]);
  bound.relocate(args.pictures, step.inputs[2]);
  bound.relocate(args.out, step.outputs[0]);
  plan_roi_align(args);
  RegionCheck& check = bound.make<RegionCheck>({&args, c.nodes_text(step)});
  bound.jobs.push_back({check_regions, &check, 1});
  bound.jobs.push_back(roi_align_row(step.kernel).job(args));
  bound.scratch_bytes = scratch_bytes(args);
  return bound;
}

}  // namespace planck
