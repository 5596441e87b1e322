// Quantized ops of ONNX Runtime and of TensorRT's exporters, spelled as DequantizeLinear, the op on
// floats, and QuantizeLinear. Their meaning:
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
#include <string_view>

#include "importer/expansions.h"
#include "importer/recipes.h"

namespace planck::importer {
namespace {

// Inputs `at`, `at` + 1 and `at` + 2: integers, scale and zero point (perhaps absent).
ValueId dequantized(const Draft& draft, Emitter& e, size_t at, int64_t axis = 1) {
  Values inputs{needed_input(draft, at), needed_input(draft, at + 1)};
  if (draft.has(at + 2)) inputs.push_back(draft.inputs[at + 2]);
  return e.node("DequantizeLinear", inputs, {{"axis", axis}});
}

// Onto the scale and zero point at input `at`; an absent zero point is 0 of the type of `like`.
ValueId quantized(const Draft& draft, Emitter& e, ValueId y, size_t at, ValueId like) {
  const DType dtype = dtype_of(e, like);
  const ValueId zero = draft.has(at + 1) ? draft.inputs[at + 1] : e.number(0, dtype);
  return e.node("QuantizeLinear", {y, needed_input(draft, at), zero});
}

// f of the floats behind input 0, on the scale and zero point at 3.
Values unary(Draft& draft, Emitter& e, auto&& f) {
  const ValueId x = dequantized(draft, e, 0);
  return {quantized(draft, e, f(x), 3, draft.inputs[0])};
}

Values pair(Draft& draft, Emitter& e, std::string_view op) {
  const ValueId a = dequantized(draft, e, 0), b = dequantized(draft, e, 3);
  return {quantized(draft, e, e.node(op, {a, b}), 6, draft.inputs[0])};
}

// The axes of height, width and so on.
Ints space_of(const Draft& draft, const Emitter& e, bool channels_last) {
  const int64_t rank = e.fact(needed_input(draft, 0)).type.rank();
  Ints axes;
  for (int64_t i = channels_last ? 1 : 2; i < (channels_last ? rank - 1 : rank); ++i) {
    axes.push_back(i);
  }
  return axes;
}

// All that is left of the attributes.
Json rest_of(Draft& draft) { return std::exchange(draft.attrs, Json::object()); }

// A sum with a bias, which may be absent.
ValueId biased(Emitter& e, ValueId y, ValueId bias) {
  return bias == kAbsent ? y : e.node("Add", {y, bias});
}

// TensorRT's exporters have the type in the name of the op.
Values quantized_as(Draft& draft, Emitter& e, DType dtype) {
  Json attrs = rest_of(draft);
  attrs["output_dtype"] = info(dtype).onnx;
  return {e.node("QuantizeLinear", {needed_input(draft, 0), needed_input(draft, 1)}, attrs)};
}

Values dequantized_from(Draft& draft, Emitter& e, DType dtype) {
  const DType given = dtype_of(e, needed_input(draft, 0));
  if (given != dtype) throw GraphError(draft.op, " reads ", given, ", expected ", dtype);
  return {e.node("DequantizeLinear", draft.inputs, rest_of(draft))};
}

}  // namespace

Values expand_dequantize(Draft& draft, Emitter& e) {
  return {e.node("DequantizeLinear", draft.inputs, rest_of(draft))};
}

Values expand_quantize(Draft& draft, Emitter& e) {
  return {e.node("QuantizeLinear", draft.inputs, rest_of(draft))};
}

Values expand_quantize_fp8(Draft& draft, Emitter& e) {
  return quantized_as(draft, e, DType::f8e4m3);
}
Values expand_quantize_int4(Draft& draft, Emitter& e) { return quantized_as(draft, e, DType::s4); }
Values expand_dequantize_fp8(Draft& draft, Emitter& e) {
  return dequantized_from(draft, e, DType::f8e4m3);
}
Values expand_dequantize_int4(Draft& draft, Emitter& e) {
  return dequantized_from(draft, e, DType::s4);
}

Values expand_qlinear_add(Draft& draft, Emitter& e) { return pair(draft, e, "Add"); }
Values expand_qlinear_mul(Draft& draft, Emitter& e) { return pair(draft, e, "Mul"); }

Values expand_qlinear_average_pool(Draft& draft, Emitter& e) {
  refuse_flags(draft, {"channels_last"});
  const Json attrs = rest_of(draft);
  return unary(draft, e, [&](ValueId x) { return e.node("AveragePool", {x}, attrs); });
}

Values expand_qlinear_concat(Draft& draft, Emitter& e) {
  if (draft.inputs.size() % 3 != 2) {
    throw GraphError("QLinearConcat takes 2 inputs and 3 for each part, got ", draft.inputs.size());
  }
  Values parts;
  for (size_t i = 2; i < draft.inputs.size(); i += 3) parts.push_back(dequantized(draft, e, i));
  const ValueId y = e.node("Concat", parts, {{"axis", needed<int64_t>(draft, "axis")}});
  return {quantized(draft, e, y, 0, draft.inputs[2])};
}

Values expand_qlinear_global_average_pool(Draft& draft, Emitter& e) {
  const Ints axes = space_of(draft, e, taken_flag(draft, "channels_last"));
  return unary(draft, e, [&](ValueId x) {
    return e.node("ReduceMean", {x, e.ints(axes)}, {{"keepdims", 1}});
  });
}

Values expand_qlinear_leaky_relu(Draft& draft, Emitter& e) {
  const Json attrs = rest_of(draft);
  return unary(draft, e, [&](ValueId x) { return e.node("LeakyRelu", {x}, attrs); });
}

Values expand_qlinear_reduce_mean(Draft& draft, Emitter& e) {
  const auto axes = taken<Ints>(draft, "axes");
  const int64_t keepdims = taken<int64_t>(draft, "keepdims").value_or(1);
  return unary(draft, e, [&](ValueId x) {
    const Values inputs = axes ? Values{x, e.ints(*axes)} : Values{x};
    return e.node("ReduceMean", inputs, {{"keepdims", keepdims}});
  });
}

Values expand_qlinear_sigmoid(Draft& draft, Emitter& e) {
  return unary(draft, e, [&](ValueId x) { return e.node("Sigmoid", {x}); });
}

// Before opset 13 the axes from `axis` on are one.
Values expand_qlinear_softmax(Draft& draft, Emitter& e) {
  const int64_t opset = needed<int64_t>(draft, "opset");
  const int64_t rank = e.fact(needed_input(draft, 0)).type.rank();
  const int64_t axis =
      checked_axis(taken<int64_t>(draft, "axis").value_or(opset < 13 ? 1 : -1), rank);
  return unary(draft, e, [&](ValueId x) {
    if (opset >= 13 || axis == rank - 1) return e.node("Softmax", {x}, {{"axis", axis}});
    const ValueId rows = e.node("Flatten", {x}, {{"axis", axis}});
    const ValueId y = e.node("Softmax", {rows}, {{"axis", 1}});
    return e.node("Reshape", {y, e.node("Shape", {x})});
  });
}

Values expand_qlinear_where(Draft& draft, Emitter& e) {
  const ValueId a = dequantized(draft, e, 1), b = dequantized(draft, e, 4);
  const ValueId y = e.node("Where", {needed_input(draft, 0), a, b});
  return {quantized(draft, e, y, 7, draft.inputs[1])};
}

// The bias counts in steps of alpha and both scales. Without a scale of y the sum stays a float.
Values expand_qgemm(Draft& draft, Emitter& e) {
  const double alpha = taken<double>(draft, "alpha").value_or(1);
  const int64_t swap_a = taken<int64_t>(draft, "transA").value_or(0);
  const int64_t swap_b = taken<int64_t>(draft, "transB").value_or(0);
  const ValueId a = dequantized(draft, e, 0);
  Values inputs{a, dequantized(draft, e, 3, swap_b != 0 ? 0 : 1)};
  if (draft.has(6)) {
    ValueId step = e.node("Mul", {draft.inputs[1], draft.inputs[4]});
    if (alpha != 1) step = e.node("Mul", {step, number(e, alpha, step)});
    inputs.push_back(e.node("DequantizeLinear", {draft.inputs[6], step}, {{"axis", -1}}));
  }
  const ValueId y =
      e.node("Gemm", inputs, {{"alpha", alpha}, {"transA", swap_a}, {"transB", swap_b}});
  return {draft.has(7) ? quantized(draft, e, y, 7, draft.inputs[0]) : y};
}

// a is quantized on the grid that fits it, as DynamicQuantizeLinear does.
Values expand_dynamic_quantize_matmul(Draft& draft, Emitter& e) {
  const Values q = e.nodes("DynamicQuantizeLinear", {needed_input(draft, 0)}, 3);
  const ValueId a = e.node("DequantizeLinear", q);
  const int64_t columns = e.fact(needed_input(draft, 1)).type.rank() - 1;
  const ValueId b = dequantized(draft, e, 1, columns);
  return {biased(e, e.node("MatMul", {a, b}), draft.input(4))};
}

Values expand_matmul_integer_to_float(Draft& draft, Emitter& e) {
  const auto operand = [&](size_t at, int64_t axis) {
    Values inputs{needed_input(draft, at), needed_input(draft, at + 2)};
    if (draft.has(at + 4)) inputs.push_back(draft.inputs[at + 4]);
    return e.node("DequantizeLinear", inputs, {{"axis", axis}});
  };
  const int64_t rows = e.fact(needed_input(draft, 0)).type.rank() - 2;
  const int64_t columns = e.fact(needed_input(draft, 1)).type.rank() - 1;
  const ValueId y = e.node("MatMul", {operand(0, rows), operand(1, columns)});
  return {biased(e, y, draft.input(6))};
}

}  // namespace planck::importer
