// Norms, softmax, element-wise programs, tables of bytes, embeddings, copies, reductions, ranges.
#include <algorithm>
#include <array>

#include "backends/cpu/families.h"
#include "base/checked.h"
#include "kernels/dynamic_quantize/rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/embed/rows.h"
#include "kernels/layout/rows.h"
#include "kernels/lrn/rows.h"
#include "kernels/lut/rows.h"
#include "kernels/norm/rows.h"
#include "kernels/range/rows.h"
#include "kernels/reduce/rows.h"
#include "kernels/resample/rows.h"
#include "kernels/softmax/rows.h"

namespace planck {
namespace {

EltType type_of(const BoundValue& v) {
  const auto type = elt_type(v.dtype);
  if (!type) throw InternalError("a tile program over ", v.dtype);
  return *type;
}

int32_t input(const Step& step, size_t i) { return i < step.inputs.size() ? step.inputs[i] : -1; }

}  // namespace

namespace {

// [outer?, rows side by side, elements of a row].
void lay_out_columns(const BoundValue& x, const BoundValue& out, NormArgs& args) {
  args.inner = x.shape[x.shape.size() - 2];
  args.x_step = x.strides.back();
  args.out_step = out.strides.back();
  args.x_stride = x.strides.front();
  args.out_stride = out.strides.front();
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const NormParams& params) {
  BoundStep bound;
  const BoundValue& x = c.at(step.inputs[0]);
  NormArgs& args = bound.make<NormArgs>();
  c.expect_broadcast(step, input(step, 1), x.shape);
  args.rows = x.rows();
  args.n = x.columns();
  args.x_stride = x.row_stride();
  args.eps = static_cast<float>(params.epsilon);
  args.out_stride = c.at(step.outputs[0]).row_stride();
  if (input(step, 1) >= 0) args.residual_stride = c.at(step.inputs[1]).row_stride();
  const bool quantizes = !params.bytes.body.empty();
  if (step.outputs.size() > 1 && !quantizes) {
    args.sum_stride = c.at(step.outputs[1]).row_stride();
    bound.relocate(args.sum, step.outputs[1]);
  }
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.residual, input(step, 1));
  bound.relocate(args.gain, input(step, 2));
  bound.relocate(args.offset, input(step, 3));
  bound.relocate(args.out, step.outputs[0]);
  const NormRow& row = norm_row(step.kernel);
  if (x.has_gaps()) lay_out_columns(x, c.at(step.outputs[0]), args);
  if (quantizes) {
    const BoundValue& bytes = c.at(step.outputs[1]);
    args.strip = eltwise_strip(row.isa);
    args.program = compile(params.bytes);
    args.bytes_stride = bytes.row_stride();
    args.bytes_type = type_of(bytes);
    bound.relocate(args.bytes, step.outputs[1]);
  }
  add_job(bound, row, args);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const SoftmaxParams& params) {
  BoundStep bound;
  const BoundValue& x = c.at(step.inputs[0]);
  SoftmaxArgs& args = bound.make<SoftmaxArgs>();
  args.log = params.log;
  args.rows = x.rows();
  args.n = x.columns();
  args.x_stride = x.row_stride();
  args.out_stride = c.at(step.outputs[0]).row_stride();
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.out, step.outputs[0]);
  add_job(bound, softmax_row(step.kernel), args);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const EltwiseParams& params) {
  BoundStep bound;
  std::vector<EltwiseInput> inputs;
  for (const int32_t v : step.inputs) {
    c.expect_broadcast(step, v, c.at(step.outputs[0]).shape);
    inputs.push_back({nullptr, c.at(v).shape, type_of(c.at(v)), c.at(v).strides});
  }
  const BoundValue& out = c.at(step.outputs[0]);
  EltwiseArgs& args = bound.make<EltwiseArgs>(
      make_eltwise_args(compile(params.program), inputs, nullptr, out.shape, type_of(out)));
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    bound.relocate(args.operands[i].data, step.inputs[i]);
  }
  bound.relocate(args.out, step.outputs[0]);
  add_job(bound, eltwise_row(step.kernel), args);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const LutParams&) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  LutArgs& args =
      bound.make<LutArgs>(make_lut_args(x.rows(), x.columns(), x.row_stride(), out.row_stride()));
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.table, step.inputs[1]);
  bound.relocate(args.out, step.outputs[0]);
  add_job(bound, lut_row(step.kernel), args);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const DynamicQuantizeParams&) {
  BoundStep bound;
  DynamicQuantizeArgs& args =
      bound.make<DynamicQuantizeArgs>(make_dynamic_quantize_args(c.at(step.inputs[0]).count()));
  args.ranges = bound.make<std::array<FloatRange, kQuantizeParts>>().data();
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.out, step.outputs[0]);
  bound.relocate(args.scale, step.outputs[1]);
  bound.relocate(args.zero, step.outputs[2]);
  const DynamicQuantizeRow& row = dynamic_quantize_row(step.kernel);
  bound.jobs.push_back(row.range_job(args));
  add_job(bound, row, args);
  return bound;
}

namespace {

// Ids that lie outside their table end the run before anything reads them.
struct IdCheck {
  const EmbedArgs* embed;
  std::string where;
};

void check_ids(const void* context, int64_t, const Worker&) {
  const auto& check = *static_cast<const IdCheck*>(context);
  for (int32_t t = 0; t < check.embed->count; ++t) {
    const EmbedTable& table = check.embed->tables[t];
    const int64_t bad = first_bad_id(table.ids, check.embed->rows, table.rows);
    if (bad >= 0) {
      const int64_t id = id_at(table.ids, bad);
      throw with(
          RunError("index ", id, " of row ", bad, " is outside [-", table.rows, ", ", table.rows,
                   ") in ", check.where),
          {.expected = cat("an index in [-", table.rows, ", ", table.rows, ")"), .got = cat(id)});
    }
  }
}

// Ids [batch, length], [1, length], [length] or a single one, over rows = batch x length.
EmbedIds bind_ids(const BoundValue& ids, const BoundValue& out) {
  EmbedIds e{};
  e.bytes = static_cast<int32_t>(size_of(ids.dtype));
  e.inner = out.rank() >= 2 ? out.shape[out.shape.size() - 2] : 1;
  e.inner = std::max<int64_t>(e.inner, 1);
  const size_t rank = ids.shape.size();
  e.inner_stride = rank >= 1 && ids.shape[rank - 1] != 1 ? ids.strides[rank - 1] : 0;
  e.outer_stride = rank >= 2 && ids.shape[rank - 2] != 1 ? ids.strides[rank - 2] : 0;
  return e;
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const EmbedParams& params) {
  BoundStep bound;
  const BoundValue& out = c.at(step.outputs[0]);
  EmbedArgs& args = bound.make<EmbedArgs>();
  args.count = static_cast<int32_t>(params.tables);
  args.normalize = params.norm;
  args.eps = static_cast<float>(params.epsilon);
  args.rows = out.rows();
  args.n = out.columns();
  args.out_stride = out.row_stride();
  for (size_t t = 0; t < static_cast<size_t>(params.tables); ++t) {
    const BoundValue& table = c.at(step.inputs[2 * t]);
    c.expect_broadcast(step, step.inputs[2 * t + 1],
                       std::span(out.shape).first(out.shape.size() - 1));
    args.tables[t] = {nullptr, table.shape[0], table.row_stride(),
                      bind_ids(c.at(step.inputs[2 * t + 1]), out)};
    bound.relocate(args.tables[t].data, step.inputs[2 * t]);
    bound.relocate(args.tables[t].ids.data, step.inputs[2 * t + 1]);
  }
  const auto after = static_cast<size_t>(2 * params.tables);
  bound.relocate(args.gain, input(step, after));
  bound.relocate(args.offset, input(step, after + 1));
  bound.relocate(args.out, step.outputs[0]);
  IdCheck& check = bound.make<IdCheck>({&args, c.nodes_text(step)});
  bound.jobs.push_back({check_ids, &check, 1});
  add_job(bound, embed_row(step.kernel), args);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const CopyParams&) {
  BoundStep bound;
  const BoundValue& x = c.at(step.inputs[0]);
  const BoundValue& out = c.at(step.outputs[0]);
  if (x.dtype != out.dtype) {
    const auto conversion = conversion_of(x.dtype, out.dtype);
    if (!conversion) throw InternalError("no conversion from ", x.dtype, " to ", out.dtype);
    ConvertArgs& args = bound.make<ConvertArgs>({*conversion, nullptr, nullptr, x.count()});
    bound.relocate(args.x, step.inputs[0]);
    bound.relocate(args.out, step.outputs[0]);
    add_job(bound, convert_row(step.kernel), args);
    return bound;
  }
  CopyArgs& args = bound.make<CopyArgs>(make_copy_args(
      x.shape, static_cast<int>(size_of(x.dtype)), {nullptr, x.strides}, {nullptr, out.strides}));
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.out, step.outputs[0]);
  add_job(bound, copy_row(step.kernel), args);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const ReduceParams& params) {
  BoundStep bound;
  const Shape& shape = c.at(step.inputs[0]).shape;
  const auto first = static_cast<size_t>(params.axes.front());
  const auto last = static_cast<size_t>(params.axes.back());
  ReduceArgs& args = bound.make<ReduceArgs>();
  args.op = static_cast<ReduceOp>(params.kind);
  const DType dtype = c.at(step.inputs[0]).dtype;
  args.type = dtype == DType::f32   ? ReduceType::f32
              : dtype == DType::s32 ? ReduceType::s32
                                    : ReduceType::s64;
  args.outer = checked_count(std::span(shape).first(first));
  args.count = checked_count(std::span(shape).subspan(first, last + 1 - first));
  args.inner = checked_count(std::span(shape).subspan(last + 1));
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.out, step.outputs[0]);
  const ReduceRow& row = reduce_row(step.kernel);
  if (const int64_t parts = reduce_parts(args); parts > 1) {
    const int64_t sums = checked_mul(checked_mul(args.outer, parts), args.inner, "sums of parts");
    args.sums = bound.make(std::vector<double>(static_cast<size_t>(sums))).data();
    bound.jobs.push_back(row.parts_job(args));
  }
  add_job(bound, row, args);
  return bound;
}

namespace {

// A table of one axis in the form that kernels read.
struct ResampleTaps {
  int64_t taps = 1;
  std::vector<int64_t> places{0};
  std::vector<float> weights{1};
};

// Axis 0 is the rows; where there is one axis only, they are a single one.
ResampleTaps taps_of(const ResampleParams& params, const BoundValue& x, const BoundValue& out,
                     size_t axis) {
  const size_t absent = 2 - params.axes.size();
  if (axis < absent) return {};
  const size_t at = axis - absent + 1;
  ResampledAxis resampled{x.shape[at], out.shape[at], params.axes[axis - absent].scale};
  if (resampled.scale == 0 && resampled.in > 0) {
    resampled.scale = static_cast<double>(resampled.out) / static_cast<double>(resampled.in);
  }
  ResampleTable table = resample_table(params.rule, resampled);
  return {table.taps, std::move(table.places), {table.weights.begin(), table.weights.end()}};
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const ResampleParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  const bool two = params.axes.size() == 2;
  const ResampleTaps& rows = bound.make<ResampleTaps>(taps_of(params, x, out, 0));
  const ResampleTaps& columns = bound.make<ResampleTaps>(taps_of(params, x, out, 1));
  ResampleArgs& args = bound.make<ResampleArgs>();
  args.images = x.shape[0];
  args.rows = two ? out.shape[1] : 1;
  args.columns = out.shape[two ? 2 : 1];
  args.channels = x.columns();
  args.image_step = x.strides[0];
  args.row_step = two ? x.strides[1] : 0;
  args.column_step = x.strides[two ? 2 : 1];
  args.out_stride = out.row_stride();
  args.row_places = rows.places.data();
  args.row_weights = rows.weights.data();
  args.row_taps = rows.taps;
  args.column_places = columns.places.data();
  args.column_weights = columns.weights.data();
  args.column_taps = columns.taps;
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.out, step.outputs[0]);
  plan_resample(args);
  add_job(bound, resample_row(step.kernel), args);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const LrnParams& params) {
  BoundStep bound;
  const Shape& shape = c.at(step.inputs[0]).shape;
  const auto axis = static_cast<size_t>(params.axis);
  LrnArgs& args = bound.make<LrnArgs>();
  args.outer = checked_count(std::span(shape).first(axis));
  args.channels = shape[axis];
  args.inner = checked_count(std::span(shape).subspan(axis + 1));
  args.before = (params.size - 1) / 2, args.after = params.size / 2;
  args.alpha = static_cast<float>(params.alpha / static_cast<double>(params.size));
  args.beta = static_cast<float>(params.beta), args.bias = static_cast<float>(params.bias);
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.out, step.outputs[0]);
  plan_lrn(args);
  bound.jobs.push_back(lrn_row(step.kernel).job(args));
  bound.scratch_bytes = scratch_bytes(args);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const RangeParams& params) {
  BoundStep bound;
  const BoundValue& out = c.at(step.outputs[0]);
  RangeArgs& args = bound.make<RangeArgs>();
  args.start = params.start.eval(c.bindings);
  args.step = params.step.eval(c.bindings);
  args.count = out.count();
  args.bytes = static_cast<int32_t>(size_of(out.dtype));
  bound.relocate(args.out, step.outputs[0]);
  add_job(bound, range_row(step.kernel), args);
  return bound;
}

}  // namespace planck
