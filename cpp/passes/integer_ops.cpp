// passes/integer_ops.cpp: products of integers, whose scales stand beside them, become the float
// products that they stand for, between DequantizeLinear and QuantizeLinear: QLinearConv,
// QLinearMatMul, and MatMulInteger or ConvInteger behind which somebody multiplies by the scales.
#include <algorithm>
#include <optional>

#include "ops/cast.h"
#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/quantize.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// How many numbers a scale or zero point holds, if the build knows.
std::optional<int64_t> count_of(const Graph& g, ValueId v) {
  return v == kAbsent ? std::optional<int64_t>(1) : product(dims_of(g, v)).known();
}

// A quantised operand: its integers, scale and zero point, and the axis of several scales.
struct Operand {
  ValueId q, scale, zero;
  int64_t axis;
};

// Why the operand is not what DequantizeLinear takes, or nothing.
std::string why_not(const Graph& g, const Operand& a) {
  const auto scales = count_of(g, a.scale), zeros = count_of(g, a.zero);
  if (!scales || !zeros) return "the number of scales is known in the run alone";
  if (*scales == 1 && *zeros == 1) return "";
  if (dims_of(g, a.scale).size() != 1) return cat("its scales are ", g.value(a.scale).type());
  if (*zeros != 1 && *zeros != *scales) return cat(*zeros, " zero points for ", *scales, " scales");
  return "";
}

// In f32 whatever the scale is, since sums of products need it.
ValueId wide_scale(Patch& patch, ValueId scale) {
  if (patch.type(scale).dtype == DType::f32) return scale;
  return patch.add(ops::Cast{info(DType::f32).onnx}, {scale});
}

ValueId dequantised(Patch& patch, const Operand& a) {
  std::vector<ValueId> inputs{a.q, wide_scale(patch, a.scale)};
  if (a.zero != kAbsent) inputs.push_back(a.zero);
  // One spelling where there is no axis, so that equal nodes are seen to be equal.
  const bool one = patch.type(a.scale).dims.empty();
  return patch.add(ops::DequantizeLinear{.axis = one ? 1 : a.axis}, std::move(inputs));
}

void quantise(Patch& patch, const Node& n, ValueId y, size_t scale) {
  const ValueId wide = wide_scale(patch, n.inputs[scale]);
  patch.replace(n.outputs[0], patch.add(ops::QuantizeLinear{}, {y, wide, n.inputs[scale + 1]}));
}

// The bias counts in steps of the product of both scales.
Outcome convolution(const Graph& g, const Node& n) {
  const Operand x{n.inputs[0], n.inputs[1], n.inputs[2], 1};
  const Operand w{n.inputs[3], n.inputs[4], n.inputs[5], 0};
  if (const std::string why = why_not(g, w); !why.empty()) return Refusal{why};
  if (count_of(g, x.scale) != 1 || count_of(g, x.zero) != 1) {
    return refuse("x has several scales");
  }
  Patch patch(g, n.id);
  std::vector<ValueId> inputs{dequantised(patch, x), dequantised(patch, w)};
  if (n.input(8) != kAbsent) {
    const ValueId scale = patch.add("Mul", {x.scale, w.scale});
    inputs.push_back(dequantised(patch, {n.inputs[8], scale, kAbsent, 0}));
  }
  const auto& from = n.as<ops::QLinearConv>();
  ops::Conv conv;
  static_cast<Windowed&>(conv) = from;
  conv.group = from.group;
  quantise(patch, n, patch.add(conv, std::move(inputs)), 6);
  return patch;
}

Outcome matrix_product(const Graph& g, const Node& n) {
  const Operand a{n.inputs[0], n.inputs[1], n.inputs[2], -2};
  const Operand b{n.inputs[3], n.inputs[4], n.inputs[5], -1};
  for (const Operand& operand : {a, b}) {
    if (const std::string why = why_not(g, operand); !why.empty()) return Refusal{why};
  }
  Patch patch(g, n.id);
  const ValueId x = dequantised(patch, a), w = dequantised(patch, b);
  quantise(patch, n, patch.add("MatMul", {x, w}), 6);
  return patch;
}

// --- sums of integers that are scaled behind ---------------------------------------------------

// What an integer sum is multiplied by: at most one scale of the run, and constants.
struct Factors {
  const Node* last = nullptr;  // the multiplication behind which nothing is left to do
  ValueId activation = kAbsent, weight = kAbsent;
};

// Takes the factor in, or the two factors of which it is made; false where it has no place.
bool take(const Graph& g, Factors& factors, ValueId v) {
  if (is_constant(g, v)) {
    if (factors.weight != kAbsent) return false;
    factors.weight = v;
    return true;
  }
  if (count_of(g, v) == 1 && factors.activation == kAbsent) {
    const Node* n = g.producer(v);
    if (n == nullptr || !n->is("Mul")) {
      factors.activation = v;
      return true;
    }
  }
  const Node* n = g.producer(v);
  if (n == nullptr || !n->is("Mul")) return false;
  return take(g, factors, n->inputs[0]) && take(g, factors, n->inputs[1]);
}

Factors factors_behind(const Graph& g, ValueId sum) {
  Factors found;
  for (const Node* n = only_reader(g, sum); n != nullptr && n->is("Mul");
       n = only_reader(g, n->outputs[0])) {
    Factors more = found;
    const ValueId factor = other_input(*n, found.last == nullptr ? sum : found.last->outputs[0]);
    if (factor == kAbsent || !take(g, more, factor)) break;
    found = more;
    found.last = n;
  }
  return found;
}

// The constant scales of the weights, one for each of `width` columns or channels, or one.
ValueId weight_scale(const Graph& g, Patch& patch, ValueId scale, ValueId zero, int64_t width) {
  const bool several = count_of(g, zero).value_or(1) != 1;
  if (scale == kAbsent) {
    return patch.constant(filled(DType::f32, several ? Shape{width} : Shape{}, 1));
  }
  if (const auto number = scalar_of(g, scale); number && !several) {
    return patch.constant(filled(DType::f32, {}, *number));
  }
  return as_row(patch, g, scale, width);
}

std::optional<Outcome> integer_product(const Graph& g, const Node& n) {
  const bool matrix = n.is("MatMulInteger");
  const Node* cast = only_reader(g, n.outputs[0]);
  if (cast == nullptr || !cast->is("Cast") || dtype_of(g, cast->outputs[0]) != DType::f32) {
    return refuse("its sums are read as integers");
  }
  const std::vector<Dim>& w = dims_of(g, n.inputs[1]);
  const auto width = w.empty() ? std::nullopt : (matrix ? w.back() : w.front()).known();
  if (!is_constant(g, n.inputs[1]) || !width) return refuse("the weights are not constant");
  if (count_of(g, n.input(2)) != 1) return refuse("its activations have several zero points");
  const Factors factors = factors_behind(g, cast->outputs[0]);
  if (factors.last == nullptr || factors.activation == kAbsent) {
    return refuse("nobody multiplies by the scale of its activations");
  }
  const auto outer = dims_of(g, factors.last->outputs[0]);
  if (!same_dims(outer, dims_of(g, cast->outputs[0]))) return refuse("the scales change its shape");
  Patch patch(g, factors.last->id);
  const bool several = factors.weight != kAbsent && !scalar_of(g, factors.weight);
  const ValueId scale = weight_scale(g, patch, factors.weight, n.input(3), *width);
  if (scale == kAbsent || (several && !matrix)) {
    return refuse("the scales of its weights are ", g.value(factors.weight).type());
  }
  const ValueId x = dequantised(patch, {n.inputs[0], factors.activation, n.input(2), 1});
  const ValueId weights = dequantised(patch, {n.inputs[1], scale, n.input(3), matrix ? -1 : 0});
  if (matrix) {
    patch.replace(factors.last->outputs[0], patch.add("MatMul", {x, weights}));
    return patch;
  }
  const auto& from = n.as<ops::ConvInteger>();
  ops::Conv conv;
  static_cast<Windowed&>(conv) = from;
  conv.group = from.group;
  patch.replace(factors.last->outputs[0], patch.add(conv, {x, weights}));
  return patch;
}

std::optional<Outcome> integer_ops(const Graph& g, const Node& n) {
  if (!has_result(n)) return std::nullopt;
  if (n.is("QLinearConv")) return convolution(g, n);
  if (n.is("QLinearMatMul")) return matrix_product(g, n);
  if (n.is("MatMulInteger") || n.is("ConvInteger")) return integer_product(g, n);
  return std::nullopt;
}

}  // namespace

Pass pass_integer_ops() { return node_pass("integer_ops", integer_ops); }

}  // namespace planck
