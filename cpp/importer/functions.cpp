// ONNX ops whose meaning is a formula of others.
#include <algorithm>

#include "importer/recipes.h"

namespace planck::importer {
namespace {

// [C] as [C,1,..,1], so that it belongs to axis 1 of a tensor of this rank.
ValueId along_channels(Emitter& e, ValueId v, int64_t rank) {
  Ints axes;
  for (int64_t i = 1; i + 1 < rank; ++i) axes.push_back(i);
  return axes.empty() ? v : unsqueezed(e, v, axes);
}

Ints axes_from(int64_t first, int64_t rank) {
  Ints axes;
  for (int64_t i = first; i < rank; ++i) axes.push_back(i);
  return axes;
}

int64_t rank_of(const Emitter& e, ValueId v) { return e.fact(v).type.rank(); }

ValueId affine(Emitter& e, ValueId x, ValueId gain, ValueId bias) {
  return binary(e, "Add", binary(e, "Mul", x, gain), bias);
}

ValueId sum_of_all(const Draft& draft, Emitter& e) {
  ValueId sum = needed_input(draft, 0);
  for (size_t i = 1; i < draft.inputs.size(); ++i) {
    sum = binary(e, "Add", sum, needed_input(draft, i));
  }
  return draft.inputs.size() == 1 ? e.node("Identity", {sum}) : sum;
}

}  // namespace

Values expand_batch_norm(Draft& draft, Emitter& e) {
  for (size_t i = 0; i < 5; ++i) needed_input(draft, i);
  if (draft.opset < 9 && taken<int64_t>(draft, "spatial").value_or(1) != 1) {
    throw UnsupportedError("BatchNormalization with spatial = 0 is not supported");
  }
  if (draft.opset < 7) taken_flag(draft, "is_test");
  refuse_flags(draft, {"training_mode"});
  taken<double>(draft, "momentum");  // of training
  const double epsilon = taken<double>(draft, "epsilon").value_or(1e-5);
  const ValueId x = draft.inputs[0], variance = draft.inputs[4];
  const ValueId root = e.node("Sqrt", {binary(e, "Add", variance, number(e, epsilon, variance))});
  const ValueId gain = cast(e, binary(e, "Div", draft.inputs[1], root), dtype_of(e, x));
  const DType wide = dtype_of(e, draft.inputs[3]);
  const ValueId moved = binary(e, "Mul", draft.inputs[3], cast(e, gain, wide));
  const ValueId shift =
      binary(e, "Sub", draft.inputs[2], cast(e, moved, dtype_of(e, draft.inputs[2])));
  const int64_t rank = rank_of(e, x);
  return {affine(e, x, along_channels(e, gain, rank),
                 along_channels(e, cast(e, shift, dtype_of(e, x)), rank))};
}

Values expand_cast_like(Draft& draft, Emitter& e) {
  const DType to = dtype_of(e, needed_input(draft, 1));
  Json attrs = std::exchange(draft.attrs, Json::object());
  attrs["to"] = info(to).onnx;
  return {e.node("Cast", {needed_input(draft, 0)}, attrs)};
}

// A depthwise convolution over the state and what is new; the end of both is the next state.
Values expand_causal_conv(Draft& draft, Emitter& e) {
  const ValueId x = needed_input(draft, 0), w = needed_input(draft, 1);
  for (size_t i : {0, 1}) need_rank(draft, e, i, 3);
  const auto channels = e.fact(w).type.dims[0].known(), taps = e.fact(w).type.dims[2].known();
  if (!channels || !taps || *taps < 1) {
    throw UnsupportedError("CausalConvWithState with weights ", e.fact(w).type);
  }
  const std::string activation = taken<std::string>(draft, "activation").value_or("none");
  if (activation != "none" && activation != "silu" && activation != "swish") {
    throw GraphError("CausalConvWithState with the activation ", activation);
  }
  ValueId all = x;
  if (*taps > 1) {
    const ValueId zero = number(e, 0, x);
    all = draft.has(3) ? e.node("Concat", {draft.inputs[3], x}, {{"axis", 2}})
                       : e.node("Pad", {x, e.ints({0, 0, *taps - 1, 0, 0, 0}), zero});
  }
  Values inputs{all, w};
  if (draft.has(2)) inputs.push_back(draft.inputs[2]);
  ValueId y = e.node("Conv", inputs, {{"group", *channels}});
  if (activation != "none") y = swish(e, y, 1);
  const ValueId state = e.node("Slice", {all, e.ints({*taps > 1 ? 1 - *taps : INT64_MAX}),
                                         e.ints({INT64_MAX}), e.ints({2})});
  return {y, state};
}

namespace {

Values over_space(Draft& draft, Emitter& e, std::string_view op) {
  const ValueId x = needed_input(draft, 0);
  return {e.node(op, {x, e.ints(axes_from(2, rank_of(e, x)))}, {{"keepdims", 1}})};
}

}  // namespace

Values expand_global_average_pool(Draft& draft, Emitter& e) {
  return over_space(draft, e, "ReduceMean");
}

Values expand_global_lp_pool(Draft& draft, Emitter& e) {
  const int64_t p = taken<int64_t>(draft, "p").value_or(2);
  if (p != 1 && p != 2) throw UnsupportedError("GlobalLpPool with p ", p, " is not supported");
  return over_space(draft, e, p == 1 ? "ReduceL1" : "ReduceL2");
}

Values expand_global_max_pool(Draft& draft, Emitter& e) {
  return over_space(draft, e, "ReduceMax");
}

Values expand_group_norm(Draft& draft, Emitter& e) {
  for (size_t i = 0; i < 3; ++i) needed_input(draft, i);
  const int64_t groups = needed<int64_t>(draft, "num_groups");
  const double epsilon = taken<double>(draft, "epsilon").value_or(1e-5);
  taken<int64_t>(draft, "stash_type");  // half precision is widened in any case
  const ValueId x = draft.inputs[0];
  const DType narrow = dtype_of(e, x);
  const int64_t rank = rank_of(e, x);
  if (groups < 1) throw GraphError("GroupNormalization with num_groups ", groups);
  const ValueId shape = e.node("Shape", {x});
  const bool half = size_of(narrow) < 4;
  const ValueId rows =
      e.node("Reshape", {half ? cast(e, x, DType::f32) : x, e.ints({0, groups, -1})});
  ValueId y = cast(e, normalized(e, rows, {2}, epsilon), narrow);
  // Up to opset 20 gain and bias belong to groups, then to channels.
  const bool by_group = draft.opset < 21;
  if (by_group) {
    y = affine(e, y, unsqueezed(e, draft.inputs[1], {1}), unsqueezed(e, draft.inputs[2], {1}));
  }
  y = e.node("Reshape", {y, shape}, {{"allowzero", 1}});
  if (by_group) return {y};
  return {affine(e, y, along_channels(e, draft.inputs[1], rank),
                 along_channels(e, draft.inputs[2], rank))};
}

Values expand_instance_norm(Draft& draft, Emitter& e) {
  for (size_t i = 0; i < 3; ++i) needed_input(draft, i);
  const double epsilon = taken<double>(draft, "epsilon").value_or(1e-5);
  const ValueId x = draft.inputs[0];
  const int64_t rank = rank_of(e, x);
  const ValueId y = normalized(e, x, axes_from(2, rank), epsilon);
  return {affine(e, y, along_channels(e, draft.inputs[1], rank),
                 along_channels(e, draft.inputs[2], rank))};
}

Values expand_lp_norm(Draft& draft, Emitter& e) {
  const ValueId x = needed_input(draft, 0);
  const int64_t axis = taken<int64_t>(draft, "axis").value_or(-1);
  const int64_t p = taken<int64_t>(draft, "p").value_or(2);
  if (p != 1 && p != 2) throw GraphError("LpNormalization with p ", p, ", expected 1 or 2");
  const ValueId norm =
      e.node(p == 1 ? "ReduceL1" : "ReduceL2", {x, e.ints({axis})}, {{"keepdims", 1}});
  // Zeros stay zeros: they are divided by the smallest normal number.
  const double least = dtype_of(e, x) == DType::f16 ? 0x1p-14 : 0x1p-126;
  return {binary(e, "Div", x, e.node("Max", {norm, number(e, least, x)}))};
}

Values expand_mean(Draft& draft, Emitter& e) {
  const ValueId sum = sum_of_all(draft, e);
  return {binary(e, "Div", sum, number(e, static_cast<double>(draft.inputs.size()), sum))};
}

Values expand_mean_variance_norm(Draft& draft, Emitter& e) {
  const ValueId x = needed_input(draft, 0);
  const Ints axes = taken<Ints>(draft, "axes").value_or(Ints{0, 2, 3});
  const auto mean = [&](ValueId v) {
    return e.node("ReduceMean", {v, e.ints(axes)}, {{"keepdims", 1}});
  };
  const ValueId centred = binary(e, "Sub", x, mean(x));
  const ValueId deviation = e.node("Sqrt", {mean(binary(e, "Mul", centred, centred))});
  return {binary(e, "Div", centred, binary(e, "Add", deviation, number(e, 1e-9, x)))};
}

Values expand_rms_norm(Draft& draft, Emitter& e) {
  const ValueId x = needed_input(draft, 0), gain = needed_input(draft, 1);
  const int64_t rank = rank_of(e, x);
  const int64_t axis = checked_axis(taken<int64_t>(draft, "axis").value_or(-1), rank);
  const double epsilon = taken<double>(draft, "epsilon").value_or(1e-5);
  taken<int64_t>(draft, "stash_type");
  return {rms_norm(e, x, gain, axes_from(axis, rank), epsilon)};
}

Values expand_softmax_loss(Draft& draft, Emitter& e) {
  Json attrs = std::exchange(draft.attrs, Json::object());
  const ValueId logs = e.node("LogSoftmax", {needed_input(draft, 0)}, {{"axis", 1}});
  Values inputs{logs, needed_input(draft, 1)};
  if (draft.has(2)) inputs.push_back(draft.inputs[2]);
  return {e.node("NegativeLogLikelihoodLoss", inputs, attrs), logs};
}

Values expand_softsign(Draft& draft, Emitter& e) {
  const ValueId x = needed_input(draft, 0);
  return {binary(e, "Div", x, binary(e, "Add", number(e, 1, x), e.node("Abs", {x})))};
}

Values expand_sum(Draft& draft, Emitter& e) { return {sum_of_all(draft, e)}; }

Values expand_swiglu(Draft& draft, Emitter& e) {
  const double alpha = taken<double>(draft, "alpha").value_or(1);
  return {binary(e, "Mul", swish(e, needed_input(draft, 0), alpha), needed_input(draft, 1))};
}

Values expand_swish(Draft& draft, Emitter& e) {
  return {swish(e, needed_input(draft, 0), taken<double>(draft, "alpha").value_or(1))};
}

}  // namespace planck::importer
