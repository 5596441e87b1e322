// Integers, what indices move, and what runs along one axis.
#include <algorithm>

#include "backends/cpu/families.h"
#include "base/checked.h"
#include "kernels/index/rows.h"
#include "kernels/integer/rows.h"
#include "kernels/lane/rows.h"
#include "kernels/layout/rows.h"

namespace planck {
namespace {

int64_t product_of(const Shape& shape, int64_t first, int64_t last) {
  return checked_count(
      std::span(shape).subspan(static_cast<size_t>(first), static_cast<size_t>(last - first)));
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const IntegerParams& params) {
  BoundStep bound;
  const BoundValue& out = c.at(step.outputs[0]);
  std::vector<std::span<const int64_t>> dims;
  for (const int32_t v : step.inputs) dims.emplace_back(c.at(v).shape);
  const DType dtype = c.at(step.inputs[1]).dtype;  // of a branch, or of both operands
  IntegerArgs& args = bound.make<IntegerArgs>(
      make_integer_args(static_cast<IntegerOp>(params.kind), static_cast<int>(size_of(dtype)),
                        out.dtype == DType::f32, dims, out.shape));
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    bound.relocate(args.operands[i], step.inputs[i]);
  }
  bound.relocate(args.out, step.outputs[0]);
  bound.jobs.push_back(integer_row(step.kernel).job(args));
  return bound;
}

namespace {

// Indices that lie outside end the run before anything is moved.
struct IndexCheck {
  const IndexArgs* args;
  std::string where;
};

void check_indices(const void* context, int64_t, const Worker&) {
  const auto& check = *static_cast<const IndexCheck*>(context);
  const BadIndex bad = first_bad_index(*check.args);
  if (bad.at < 0) return;
  const std::string range = cat("[-", bad.extent, ", ", bad.extent, ")");
  throw with(RunError("index ", bad.index, " at place ", bad.at, " is outside ", range, " in ",
                      check.where),
             {.expected = "an index in " + range, .got = cat(bad.index)});
}

// The rows of one axis: all of it is moved for each index.
void along_axis(const Shape& x, const Shape& indices, int64_t axis, IndexArgs& args) {
  const auto rank = static_cast<int64_t>(x.size());
  args.repeat = true;
  args.inner = product_of(x, axis + 1, rank);
  args.block = std::max<int64_t>(checked_count(indices), 1);
  args.rows = checked_mul(product_of(x, 0, axis), checked_count(indices), "Gather");
  args.extents[0] = x[static_cast<size_t>(axis)];
  args.block_step = args.extents[0] * args.inner;
  args.steps[0] = args.inner;
}

// One index for each element: the other axes keep their places.
void by_element(const Shape& x, const Shape& indices, int64_t axis, IndexArgs& args) {
  const int64_t behind = product_of(x, axis + 1, static_cast<int64_t>(x.size()));
  args.period = std::max<int64_t>(behind, 1);
  args.period_step = 1;
  args.rows = checked_count(indices);
  args.block = std::max<int64_t>(indices[static_cast<size_t>(axis)] * behind, 1);
  args.extents[0] = x[static_cast<size_t>(axis)];
  args.block_step = args.extents[0] * behind;
  args.steps[0] = behind;
}

void by_coordinates(const Shape& x, const Shape& indices, int64_t batch, IndexArgs& args) {
  const auto rank = static_cast<int64_t>(x.size());
  args.width = static_cast<int32_t>(indices.back());
  args.inner = product_of(x, batch + args.width, rank);
  args.rows = product_of(indices, 0, static_cast<int64_t>(indices.size()) - 1);
  args.block =
      std::max<int64_t>(product_of(indices, batch, static_cast<int64_t>(indices.size()) - 1), 1);
  args.block_step = product_of(x, batch, rank);
  for (int32_t k = 0; k < args.width; ++k) {
    args.extents[k] = x[static_cast<size_t>(batch + k)];
    args.steps[k] = product_of(x, batch + k + 1, rank);
  }
}

IndexArgs index_args(const BindContext& c, const Step& step, const IndexParams& params) {
  const BoundValue &x = c.at(step.inputs[0]), &indices = c.at(step.inputs[1]);
  IndexArgs args{};
  args.op = IndexOp::gather;
  args.bytes = static_cast<int32_t>(size_of(x.dtype));
  args.index_bytes = static_cast<int32_t>(size_of(indices.dtype));
  args.width = 1;
  args.inner = args.block = args.period = 1;
  switch (params.kind) {
    case IndexKind::gather:
      along_axis(x.shape, indices.shape, params.axis, args);
      break;
    case IndexKind::scatter_elements:
      args.op = IndexOp::scatter;
      [[fallthrough]];
    case IndexKind::gather_elements:
      by_element(x.shape, indices.shape, params.axis, args);
      break;
    case IndexKind::scatter_nd:
      args.op = IndexOp::scatter;
      [[fallthrough]];
    case IndexKind::gather_nd:
      by_coordinates(x.shape, indices.shape, params.batch, args);
      break;
    case IndexKind::one_hot: {
      const Shape& y = c.at(step.outputs[0]).shape;
      args.op = IndexOp::one_hot;
      args.rows = checked_count(indices.shape);
      args.period =
          std::max<int64_t>(product_of(y, params.axis + 1, static_cast<int64_t>(y.size())), 1);
      args.extents[0] = y[static_cast<size_t>(params.axis)];
      break;
    }
  }
  return args;
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const IndexParams& params) {
  BoundStep bound;
  IndexArgs& args = bound.make<IndexArgs>(index_args(c, step, params));
  bound.relocate(args.indices, step.inputs[1]);
  bound.relocate(args.out, step.outputs[0]);
  if (args.op != IndexOp::one_hot) {
    IndexCheck& check = bound.make<IndexCheck>({&args, c.nodes_text(step)});
    bound.jobs.push_back({check_indices, &check, 1});
  }
  if (args.op == IndexOp::scatter) {
    const BoundValue& x = c.at(step.inputs[0]);
    CopyArgs& copy = bound.make<CopyArgs>(
        make_copy_args(x.shape, args.bytes, {nullptr, x.strides}, {nullptr, x.strides}));
    bound.relocate(copy.x, step.inputs[0]);
    bound.relocate(copy.out, step.outputs[0]);
    bound.jobs.push_back(best_row(copy_rows()).job(copy));
    bound.relocate(args.data, step.inputs[2]);
  } else {
    bound.relocate(args.data, step.inputs[0]);
  }
  bound.jobs.push_back(index_row(step.kernel).job(args));
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const LaneParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  LaneArgs& args = bound.make<LaneArgs>();
  args.op = static_cast<LaneOp>(params.kind);
  args.type = x.dtype == DType::f32   ? LaneType::f32
              : x.dtype == DType::s32 ? LaneType::s32
                                      : LaneType::s64;
  args.largest = params.largest;
  args.last = params.last;
  args.exclusive = params.exclusive;
  args.reverse = params.reverse;
  args.outer = product_of(x.shape, 0, params.axis);
  args.count = x.shape[static_cast<size_t>(params.axis)];
  args.inner = product_of(x.shape, params.axis + 1, x.rank());
  if (params.kind == LaneKind::top) args.k = out.shape[static_cast<size_t>(params.axis)];
  if (out.count() == 0) args.outer = 0;
  bound.relocate(args.x, step.inputs[0]);
  if (params.kind != LaneKind::arg) bound.relocate(args.out, step.outputs[0]);
  if (params.kind != LaneKind::sum) bound.relocate(args.indices, step.outputs.back());
  bound.jobs.push_back(lane_row(step.kernel).job(args));
  bound.scratch_bytes = scratch_bytes(args);
  return bound;
}

}  // namespace planck
