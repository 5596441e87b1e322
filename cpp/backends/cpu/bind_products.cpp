// Linear layers, convolutions, pools, batched products, attention.
#include <algorithm>
#include <array>

#include "backends/cpu/families.h"
#include "base/checked.h"
#include "kernels/attention/rows.h"
#include "kernels/byte_pool/rows.h"
#include "kernels/channelwise/rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/matmul/rows.h"
#include "kernels/qdepthwise/rows.h"
#include "kernels/qmatmul/rows.h"
#include "kernels/recurrent/rows.h"
#include "kernels/simd/collapse.h"
#include "kernels/winograd/rows.h"
#include "plan/view.h"

namespace planck {
namespace {

// The packed weights of the next linear layer, so that they are on their way from memory while this
// one still computes.
MatmulNext next_weights(const Plan& plan, const Step& step) {
  const auto index = static_cast<size_t>(&step - plan.steps.data());
  for (size_t i = index + 1; i < plan.steps.size(); ++i) {
    const StepParams& params = plan.steps[i].params;
    if (!std::holds_alternative<LinearParams>(params) &&
        !std::holds_alternative<ConvParams>(params)) {
      continue;
    }
    const PlanValue& w = plan.values[static_cast<size_t>(plan.steps[i].inputs[1])];
    const PlanBuffer& buffer = plan.buffers[static_cast<size_t>(w.buffer)];
    const Tensor& tensor = plan.constants[static_cast<size_t>(buffer.index)].tensor;
    return {tensor.as<float>(), tensor.count()};
  }
  return {};
}

// The same for integer products.
QmatmulNext next_codes(const Plan& plan, const Step& step) {
  const auto index = static_cast<size_t>(&step - plan.steps.data());
  for (size_t i = index + 1; i < plan.steps.size(); ++i) {
    if (!std::holds_alternative<QProductParams>(plan.steps[i].params)) continue;
    const PlanValue& w = plan.values[static_cast<size_t>(plan.steps[i].inputs[1])];
    const PlanBuffer& buffer = plan.buffers[static_cast<size_t>(w.buffer)];
    const Tensor& tensor = plan.constants[static_cast<size_t>(buffer.index)].tensor;
    return {tensor.as<int8_t>(), tensor.count()};
  }
  return {};
}

// Windows over two spatial axes; where there is one, the rows (axis 0) are a single one.
WindowSteps window_steps(const BoundValue& x, const BoundValue& out,
                         const std::vector<WindowParams>& windows, size_t axis) {
  const size_t absent = 2 - windows.size();
  if (axis < absent) return {};
  const WindowParams& w = windows[axis - absent];
  const size_t at = axis - absent + 1;
  return {x.shape[at], out.shape[at], w.kernel, w.stride, w.dilation, w.begin, x.strides[at]};
}

void add_product(BoundStep& bound, const Step& step, MatmulArgs& args) {
  bound.jobs.push_back(plan_matmul(matmul_row(step.kernel), args));
  bound.scratch_bytes = scratch_bytes(args);
  bound.flops =
      2.0 * static_cast<double>(args.plan.items * args.m) * static_cast<double>(args.n * args.k);
}

}  // namespace

namespace {

// The type of an output that a program ends in.
EltType bytes_type(const BoundValue& out) {
  const auto type = elt_type(out.dtype);
  if (!type || elt_bytes(*type) != 1) throw InternalError("a product that gives ", out.dtype);
  return *type;
}

// What linear layers and convolutions share: packed weights, bias, residual, what comes after. The
// rows of C are there, and those of what the program reads.
BoundStep bind_weighted(const BindContext& c, const Step& step, const TileProgram& then,
                        BoundStep bound, MatmulArgs& args) {
  const BoundValue& out = c.at(step.outputs[0]);
  args.next = next_weights(c.plan, step);
  const int32_t residual = step.inputs[3];
  c.expect_broadcast(step, residual, out.shape);
  bound.relocate(args.a, step.inputs[0]);
  bound.relocate(args.b, step.inputs[1]);
  bound.relocate(args.epilogue.bias, step.inputs[2]);
  if (out.dtype == DType::f32) {
    bound.relocate(args.c, step.outputs[0]);
  } else {
    args.epilogue.bytes_type = bytes_type(out);
    args.epilogue.bytes_stride = out.row_stride();
    bound.relocate(args.epilogue.bytes, step.outputs[0]);
  }
  if (!then.body.empty()) args.epilogue.program = &bound.make<EltProgram>(compile(then));
  for (size_t i = 1; i < then.operands.size(); ++i) {
    bound.relocate(args.epilogue.operands[i].data, step.inputs[2 + i]);
  }
  if (residual >= 0 && then.operands.size() <= 1) {
    args.epilogue.residual_stride = c.at(residual).row_stride();
    bound.relocate(args.epilogue.residual, residual);
  }
  // plan_matmul looks at which pointers are set; until the run they only have to be non-null.
  for (const Relocation& r : bound.relocations) *r.slot = &bound;
  add_product(bound, step, args);
  return bound;
}

}  // namespace

namespace {

// Rows of C in lines that lie further apart: a batch of products, one for each of them.
void batch_lines(const BoundValue& y, size_t lines, MatmulArgs& args) {
  args.m = y.shape[lines];
  args.c_stride = y.strides[lines];
  int64_t a_step = args.a_stride * args.m;
  for (size_t i = lines; i-- > 0;) {
    if (y.shape[i] == 1) continue;
    if (args.batch_rank == kMaxMatmulBatch) throw UnsupportedError("lines of rank ", lines);
    args.batch[args.batch_rank++] = {y.shape[i], a_step, 0, y.strides[i], 0};
    a_step *= y.shape[i];
  }
  std::reverse(args.batch, args.batch + args.batch_rank);
}

// Columns in groups that lie apart: [..., groups, columns of one]. Kernels whose lanes are columns
// take them as a batch of products; where a group is not made of whole panels, it has its own made
// in the run.
void group_columns(const BoundValue& y, const MatmulRow& row, MatmulArgs& args) {
  const size_t groups = y.shape.size() - 2;  // the axis
  batch_lines(y, groups - 1, args);
  const int64_t columns = y.shape.back();
  if (row.lanes == Lanes::rows) {
    args.cut.m_block = args.m;
    args.c_group = columns;
    args.c_group_step = y.strides[groups];
    return;
  }
  if (args.batch_rank == kMaxMatmulBatch) throw UnsupportedError("lines of rank ", groups);
  args.b_packed = groups_panels(row, columns);
  const int64_t b_step = args.b_packed ? columns * args.k : columns;
  args.batch[args.batch_rank++] = {y.shape[groups], 0, b_step, y.strides[groups], 0};
  args.n = columns;
  args.b_row_stride = row.tile_n;
}

}  // namespace

namespace {

// Steps of the value along the axes before the columns of y; 0 where it is repeated.
std::vector<int64_t> row_steps(const BoundValue& v, const BoundValue& y) {
  const size_t axes = y.shape.size() - 1, absent = y.shape.size() - v.shape.size();
  std::vector<int64_t> steps(axes, 0);
  for (size_t i = absent; i < axes; ++i) {
    if (v.shape[i - absent] != 1) steps[i] = v.strides[i - absent];
  }
  return steps;
}

// The rows of A, C and what the program reads: as few axes as all of them walk alike. The last one
// has the rows of a product, the others are a batch.
void walk_rows(const BindContext& c, const Step& step, MatmulArgs& args) {
  const BoundValue &a = c.at(step.inputs[0]), &y = c.at(step.outputs[0]);
  if (y.count() == 0) return;
  StridedLoop loop{{y.shape.begin(), y.shape.end() - 1}, {row_steps(a, y), row_steps(y, y)}};
  for (size_t i = 3; i < step.inputs.size(); ++i) {
    loop.strides.push_back(row_steps(c.at(step.inputs[i]), y));
  }
  loop.collapse();
  if (loop.dims.empty()) loop.pad_to_plane();
  const size_t rows = loop.dims.size() - 1;
  args.m = loop.dims[rows];
  args.a_stride = loop.strides[0][rows];
  args.c_stride = loop.strides[1][rows];
  for (size_t i = 2; i < loop.strides.size(); ++i) {
    const BoundValue& v = c.at(step.inputs[i + 1]);
    const bool one = v.shape.empty() || v.shape.back() == 1;
    args.epilogue.operands[i - 1] = {nullptr, loop.strides[i][rows], one ? 0 : 1};
  }
  for (size_t axis = 0; axis < rows; ++axis) {
    MatmulBatch& batch = args.batch[args.batch_rank++];
    batch = {loop.dims[axis], loop.strides[0][axis], 0, loop.strides[1][axis], 0};
    for (size_t i = 2; i < loop.strides.size(); ++i) {
      batch.operands[i - 1] = loop.strides[i][axis];
    }
  }
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const LinearParams& params) {
  BoundStep bound;
  const BoundValue &a = c.at(step.inputs[0]), &y = c.at(step.outputs[0]);
  MatmulArgs& args = bound.make<MatmulArgs>();
  args.n = params.n;
  args.k = params.k;
  if (params.then.operands.size() > 1) {
    walk_rows(c, step, args);
    return bind_weighted(c, step, params.then, std::move(bound), args);
  }
  args.m = a.rows();
  args.a_stride = a.row_stride();
  if (y.columns() != params.n && y.count() > 0) {
    group_columns(y, matmul_row(step.kernel), args);
  } else if (y.count() > 0 && !has_rows(y)) {
    batch_lines(y, y.shape.size() - 2, args);
  } else {
    args.c_stride = y.row_stride();
  }
  return bind_weighted(c, step, params.then, std::move(bound), args);
}

namespace {

// The channels of a convolution that come in parts; the extents of the picture.
void bind_parts(const BindContext& c, const Step& step, const ConvParams& params, BoundStep& bound,
                MatmulWindows& windows) {
  auto& parts = bound.make<std::vector<WindowPart>>();
  parts.resize(params.repeats.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const int32_t input = step.inputs[ConvParams::part_input(i)];
    const BoundValue& x = c.at(input);
    parts[i] = {nullptr, x.columns(), params.repeats[i], x.strides[0], x.strides[1], x.strides[2]};
    bound.relocate(parts[i].first, input);
  }
  windows.parts = parts;
  windows.y.in *= params.repeats[0];
  windows.x.in *= params.repeats[0];
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const ConvParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  MatmulWindows& windows = bound.make<MatmulWindows>();
  windows.y = window_steps(x, out, params.windows, 0);
  windows.x = window_steps(x, out, params.windows, 1);
  windows.channels = params.channels;
  windows.image_step = x.strides[0];
  if (!params.repeats.empty()) {
    bind_parts(c, step, params, bound, windows);
  } else if (params.channels > 1) {
    windows.channel_step = x.strides.back();
  }
  MatmulArgs& args = bound.make<MatmulArgs>();
  args.m = out.rows();
  args.n = params.n;
  args.k = params.k();
  args.c_stride = out.row_stride();
  args.windows = &windows;
  return bind_weighted(c, step, params.then, std::move(bound), args);
}

namespace {

// What both families of integers store, and what they start from and end in.
void bind_integers(const BindContext& c, const Step& step, const auto& params, BoundStep& bound,
                   auto& args) {
  args.zero = static_cast<uint8_t>(params.zero);
  args.requantize = params.requantize.on;
  args.out_zero = params.requantize.zero;
  args.low = params.requantize.low;
  args.high = params.requantize.high;
  const BoundValue& out = c.at(step.outputs[0]);
  if (out.dtype != DType::f32) args.bytes_type = bytes_type(out);
  bound.relocate(args.offset, step.inputs[2]);
  bound.relocate(args.multiplier, step.inputs[3]);
  bound.relocate(args.bias, step.inputs[4]);
  if (step.inputs.size() > 6) bound.relocate(args.zero_at, step.inputs[6]);
  const int32_t residual = step.inputs[5];
  c.expect_broadcast(step, residual, out.shape);
  if (!params.then.body.empty()) args.program = &bound.make<EltProgram>(compile(params.then));
  if (residual < 0 || params.then.operands.size() > 1) return;
  args.residual_stride = c.at(residual).row_stride();
  bound.relocate(args.residual, residual);
}

// The residual as operand 1 of the program, if that reads it.
void bind_operand(const BindContext& c, const Step& step, const TileProgram& then, BoundStep& bound,
                  EltOperand& operand) {
  const int32_t residual = step.inputs[5];
  if (residual < 0 || then.operands.size() < 2) return;
  operand = {nullptr, c.at(residual).row_stride(), 1, *elt_type(c.at(residual).dtype)};
  bound.relocate(operand.data, residual);
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const QProductParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  QmatmulArgs& args = bound.make<QmatmulArgs>();
  args.m = out.rows();
  args.n = params.n;
  args.k = params.k();
  args.next = next_codes(c.plan, step);
  if (params.windows.empty()) {
    args.a_stride = x.row_stride();
  } else {
    MatmulWindows& windows = bound.make<MatmulWindows>();
    windows.y = window_steps(x, out, params.windows, 0);
    windows.x = window_steps(x, out, params.windows, 1);
    windows.channels = params.channels;
    windows.image_step = x.strides[0];
    args.windows = &windows;
  }
  bound.relocate(args.a, step.inputs[0]);
  bound.relocate(args.b, step.inputs[1]);
  args.c_stride = out.row_stride();
  if (out.dtype == DType::f32) {
    bound.relocate(args.c, step.outputs[0]);
  } else {
    bound.relocate(args.c_bytes, step.outputs[0]);
  }
  bind_integers(c, step, params, bound, args);
  bind_operand(c, step, params.then, bound, args.operands[1]);
  for (const Relocation& r : bound.relocations) *r.slot = &bound;  // as in bind_weighted
  bound.jobs.push_back(plan_qmatmul(qmatmul_row(step.kernel), args));
  bound.scratch_bytes = scratch_bytes(args);
  bound.flops = 2.0 * static_cast<double>(args.m) * static_cast<double>(args.n * args.k);
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const QDepthwiseParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  const PlanValue& codes = c.plan.values[static_cast<size_t>(step.inputs[1])];
  const PlanBuffer& buffer = c.plan.buffers[static_cast<size_t>(codes.buffer)];
  const Tensor& weights = c.plan.constants[static_cast<size_t>(buffer.index)].tensor;
  const std::span<const int8_t> w(weights.as<int8_t>(),
                                  static_cast<size_t>(c.at(step.inputs[1]).count()));
  QDepthwiseArgs& args = bound.make<QDepthwiseArgs>();
  args.w = bound.make(widened(w)).data();
  args.padding = bound.make(padding_of(w, x.columns(), static_cast<uint8_t>(params.zero))).data();
  args.rows = window_steps(x, out, params.windows, 0);
  args.columns = window_steps(x, out, params.windows, 1);
  args.images = x.shape[0];
  args.channels = x.columns();
  args.image_step = x.strides[0];
  args.out_stride = out.row_stride();
  bound.relocate(args.x, step.inputs[0]);
  if (out.dtype == DType::f32) {
    bound.relocate(args.out, step.outputs[0]);
  } else {
    bound.relocate(args.bytes, step.outputs[0]);
  }
  bind_integers(c, step, params, bound, args);
  bind_operand(c, step, params.then, bound, args.operand);
  for (const Relocation& r : bound.relocations) *r.slot = &bound;  // as in bind_weighted
  const QDepthwiseRow& row = qdepthwise_row(step.kernel);
  plan_qdepthwise(row, args);
  bound.scratch_bytes = scratch_bytes(args);
  bound.jobs.push_back(row.job(args));
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const WinogradParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  WinogradArgs& args = bound.make<WinogradArgs>();
  const std::vector<WindowParams> windows{{3, 1, 1, params.begin_y}, {3, 1, 1, params.begin_x}};
  args.y_axis = window_steps(x, out, windows, 0);
  args.x_axis = window_steps(x, out, windows, 1);
  args.images = x.shape[0];
  args.channels = params.channels;
  args.n = params.n;
  args.image_step = x.strides[0];
  args.out_stride = out.row_stride();
  if (step.inputs[3] >= 0) args.residual_stride = c.at(step.inputs[3]).row_stride();
  if (!params.then.body.empty()) args.program = &bound.make<EltProgram>(compile(params.then));
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.w, step.inputs[1]);
  bound.relocate(args.bias, step.inputs[2]);
  bound.relocate(args.residual, step.inputs[3]);
  bound.relocate(args.out, step.outputs[0]);
  bound.jobs.push_back(plan_winograd(matmul_row(step.kernel), args));
  bound.scratch_bytes = scratch_bytes(args);
  bound.flops =
      2.0 * 9 * static_cast<double>(out.rows() * params.n) * static_cast<double>(params.channels);
  return bound;
}

namespace {

// A state [sides, batch, hidden], where there is one.
auto state_args(const BindContext& c, int32_t v, auto state) {
  if (v < 0) return state;
  state.side = c.at(v).strides[0];
  state.row = c.at(v).strides[1];
  return state;
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const RecurrentParams& params) {
  BoundStep bound;
  const BoundValue& x = c.at(step.inputs[0]);
  RecurrentArgs& args = bound.make<RecurrentArgs>();
  args.kind = params.kind;
  args.hidden = params.hidden;
  args.sides = params.sides;
  args.reverse = params.reverse;
  args.steps = x.shape[0];
  args.batch = x.shape[1];
  args.x_step = x.strides[0];
  args.x_row = x.strides[1];
  args.h = state_args(c, step.inputs[3], args.h);
  args.c = state_args(c, step.inputs[4], args.c);
  args.last_h = state_args(c, step.outputs[1], args.last_h);
  args.last_c = state_args(c, step.outputs[2], args.last_c);
  if (step.outputs[0] >= 0) {
    const std::vector<int64_t>& y = c.at(step.outputs[0]).strides;
    args.y = {.first = nullptr, .side = y[1], .row = y[2], .step = y[0]};
  }
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.w, step.inputs[1]);
  bound.relocate(args.more, step.inputs[2]);
  bound.relocate(args.h.first, step.inputs[3]);
  bound.relocate(args.c.first, step.inputs[4]);
  bound.relocate(args.lengths, step.inputs[5]);
  bound.relocate(args.y.first, step.outputs[0]);
  bound.relocate(args.last_h.first, step.outputs[1]);
  bound.relocate(args.last_c.first, step.outputs[2]);
  bound.relocate(args.states, step.outputs[3]);
  bound.jobs = plan_recurrent(matmul_row(step.kernel), args);
  bound.scratch_bytes = args.plan.scratch_bytes;
  bound.flops = 2.0 * static_cast<double>(args.steps * args.batch * params.sides) *
                static_cast<double>(params.hidden * params.hidden) *
                params.sizes().form.all_gates();
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const ChannelwiseParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  ChannelwiseArgs& args = bound.make<ChannelwiseArgs>();
  args.op = static_cast<ChannelwiseOp>(params.kind);
  args.rows = window_steps(x, out, params.windows, 0);
  args.columns = window_steps(x, out, params.windows, 1);
  args.images = x.shape[0];
  args.channels = x.columns();
  args.image_step = x.strides[0];
  args.out_stride = out.row_stride();
  args.count_padding = params.count_padding;
  if (step.inputs[3] >= 0) args.residual_stride = c.at(step.inputs[3]).row_stride();
  if (!params.then.body.empty()) finish_with(args, compile(params.then));
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.w, step.inputs[1]);
  bound.relocate(args.bias, step.inputs[2]);
  bound.relocate(args.residual, step.inputs[3]);
  if (out.dtype == DType::f32) {
    bound.relocate(args.out, step.outputs[0]);
  } else {
    args.bytes_type = bytes_type(out);
    bound.relocate(args.bytes, step.outputs[0]);
  }
  // plan_channelwise looks at which pointers are set.
  for (const Relocation& r : bound.relocations) *r.slot = &bound;
  const ChannelwiseRow& row = channelwise_row(step.kernel);
  plan_channelwise(row, args);
  bound.scratch_bytes = scratch_bytes(args);
  bound.jobs.push_back(row.job(args));
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const BytePoolParams& params) {
  BoundStep bound;
  const BoundValue &x = c.at(step.inputs[0]), &out = c.at(step.outputs[0]);
  BytePoolArgs& args = bound.make<BytePoolArgs>();
  args.rows = window_steps(x, out, params.windows, 0);
  args.columns = window_steps(x, out, params.windows, 1);
  args.images = x.shape[0];
  args.channels = x.columns();
  args.image_step = x.strides[0];
  args.out_stride = out.row_stride();
  args.is_signed = x.dtype == DType::s8;
  bound.relocate(args.x, step.inputs[0]);
  bound.relocate(args.out, step.outputs[0]);
  plan_byte_pool(args);
  bound.jobs.push_back(byte_pool_row(step.kernel).job(args));
  return bound;
}

BoundStep bind(const BindContext& c, const Step& step, const MatmulParams&) {
  BoundStep bound;
  const BoundValue& a = c.at(step.inputs[0]);
  const BoundValue& b = c.at(step.inputs[1]);
  const BoundValue& out = c.at(step.outputs[0]);
  const auto rank = static_cast<size_t>(out.rank());
  MatmulArgs& args = bound.make<MatmulArgs>();
  args.m = out.shape[rank - 2];
  args.n = out.shape[rank - 1];
  args.k = a.shape.back();
  args.a_stride = a.strides[a.shape.size() - 2];
  args.b_packed = false;
  args.b_row_stride = b.strides[b.shape.size() - 2];
  args.b_column_stride = b.strides.back();
  args.c_stride = out.strides[rank - 2];
  for (size_t i = 0; i + 2 < rank; ++i) {
    if (out.shape[i] == 1) continue;
    if (args.batch_rank == kMaxMatmulBatch) throw UnsupportedError("a product of rank ", rank);
    const auto step_of = [&](const BoundValue& v) -> int64_t {
      const size_t skip = rank - v.shape.size();
      return i < skip || v.shape[i - skip] == 1 ? 0 : v.strides[i - skip];
    };
    args.batch[args.batch_rank++] = {out.shape[i], step_of(a), step_of(b), out.strides[i], 0};
  }
  bound.relocate(args.a, step.inputs[0]);
  bound.relocate(args.b, step.inputs[1]);
  bound.relocate(args.c, step.outputs[0]);
  for (const Relocation& r : bound.relocations) *r.slot = &bound;
  add_product(bound, step, args);
  return bound;
}

namespace {

// [batch, length, heads * size] or [batch, heads, length, size].
HeadStrides head_strides(const BoundValue& v, int64_t size) {
  if (v.rank() == 3) return {v.strides[0], size, v.strides[1]};
  return {v.strides[0], v.strides[1], v.strides[2]};
}

int64_t head_size(const BoundValue& v, int64_t heads) {
  return v.rank() == 3 ? v.shape[2] / heads : v.shape[3];
}
int64_t length(const BoundValue& v) { return v.rank() == 3 ? v.shape[1] : v.shape[2]; }

void bind_mask(const BoundValue& mask, AttentionArgs& args) {
  int64_t steps[4] = {};
  for (size_t i = 0; i < mask.shape.size(); ++i) {
    steps[4 - mask.shape.size() + i] = mask.shape[i] == 1 ? 0 : mask.strides[i];
  }
  args.mask_batch = steps[0];
  args.mask_head = steps[1];
  args.mask_row = steps[2];
  args.mask_key = steps[3];
}

}  // namespace

BoundStep bind(const BindContext& c, const Step& step, const AttentionParams& params) {
  BoundStep bound;
  const BoundValue& q = c.at(step.inputs[0]);
  const BoundValue& k = c.at(step.inputs[1]);
  const BoundValue& v = c.at(step.inputs[2]);
  const BoundValue& out = c.at(step.outputs[0]);
  AttentionArgs& args = bound.make<AttentionArgs>();
  args.batch = q.shape[0];
  args.heads = params.heads;
  args.lq = length(q);
  args.lk = length(k);
  args.d = head_size(q, params.heads);
  args.dv = head_size(v, params.heads);
  args.q_strides = head_strides(q, args.d);
  args.k_strides = head_strides(k, args.d);
  args.v_strides = head_strides(v, args.dv);
  args.out_strides = head_strides(out, args.dv);
  args.scale = static_cast<float>(params.scale);
  args.masked_rows_zero = params.masked_rows_zero;
  c.expect_broadcast(step, step.inputs[3], std::array{args.batch, args.heads, args.lq, args.lk});
  if (length(v) != args.lk || k.shape[0] != args.batch || v.shape[0] != args.batch) {
    throw RunError("keys ", shape_text(k.shape), ", values ", shape_text(v.shape), " and queries ",
                   shape_text(q.shape), " do not agree in ", c.nodes_text(step));
  }
  if (step.inputs[3] >= 0) bind_mask(c.at(step.inputs[3]), args);
  bound.relocate(args.q, step.inputs[0]);
  bound.relocate(args.k, step.inputs[1]);
  bound.relocate(args.v, step.inputs[2]);
  bound.relocate(args.mask, step.inputs[3]);
  if (!params.then.body.empty()) args.program = &bound.make<EltProgram>(compile(params.then));
  if (out.dtype == DType::f32) {
    bound.relocate(args.out, step.outputs[0]);
  } else {
    args.bytes_type = bytes_type(out);
    bound.relocate(args.out_bytes, step.outputs[0]);
  }
  for (const Relocation& r : bound.relocations) *r.slot = &bound;
  bound.jobs.push_back(plan_attention(attention_row(step.kernel), args));
  bound.scratch_bytes = scratch_bytes(args);
  bound.flops = 2.0 * static_cast<double>(args.batch * args.heads * args.lq) *
                static_cast<double>(args.lk * (args.d + args.dv));
  return bound;
}

}  // namespace planck
