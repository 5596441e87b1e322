// passes/quantized.cpp: changes nothing, but says which quantised values are computed with as
// floats, and why: products that read a DequantizeLinear and cannot take its integers, and pairs of
// QuantizeLinear and DequantizeLinear that nobody gains from. Element-wise readers do gain: they
// read a quarter of the bytes.
#include <algorithm>
#include <optional>

#include "passes/passes.h"
#include "passes/quant_facts.h"
#include "passes/tools.h"

namespace planck {

namespace {

constexpr std::string_view kProducts[] = {"Conv",   "ConvTranspose", "Gemm",
                                          "MatMul", "planck.Linear", "planck.Convolution"};

bool is_product(const Node& n) {
  return std::ranges::any_of(kProducts, [&](std::string_view op) { return n.is(op); });
}

constexpr std::string_view kElementwise[] = {
    "Abs",         "Add",       "Clip",      "Div",  "Elu", "Erf",  "Exp",   "Gelu",
    "HardSigmoid", "HardSwish", "LeakyRelu", "Max",  "Min", "Mul",  "Neg",   "PRelu",
    "Pow",         "Relu",      "Sigmoid",   "Sqrt", "Sub", "Tanh", "Where", "planck.Swish"};

bool is_elementwise(const Node& n) {
  return std::ranges::any_of(kElementwise, [&](std::string_view op) { return n.is(op); });
}

// What only moves elements: who reads the result computes with it.
constexpr std::string_view kMoves[] = {"Concat",    "Expand",           "Split",      "planck.Crop",
                                       "Transpose", "planck.Broadcast", "planck.View"};

// Whether the value is the residual of an integer product, which reads it as bytes of one known
// scale.
bool read_as_residual(const Graph& g, const Node& n, ValueId v) {
  if (!is_product(n) || n.input(3) != v || made_by(g, v, "DequantizeLinear") == nullptr) {
    return false;
  }
  const QuantFact q = quant_of(g, v);
  const bool bytes = q != nullptr && (q->dtype == DType::u8 || q->dtype == DType::s8);
  return bytes && q->scale.size() == 1 && q->block == 0 && why_no_integer_product(g, n).empty();
}

// Who computes with the value as floats: nobody's name where somebody gains from its bytes.
std::string float_reader(const Graph& g, ValueId v, int& left) {
  if (v == kAbsent) return "";
  std::string op = g.is_output(v) ? "a graph output" : "";
  for (const NodeId id : g.value(v).readers) {
    const Node& n = g.node(id);
    if (is_elementwise(n) || (is_product(n) && n.input(0) == v)) return "";
    if (read_as_residual(g, n, v)) return "";
    const bool moves = std::ranges::any_of(kMoves, [&](std::string_view m) { return n.is(m); });
    op = moves && --left > 0 ? float_reader(g, n.outputs[0], left) : n.op->text();
    if (op.empty()) return "";
  }
  return op;
}

// A pair: the integers between have no other reader, so that the floats were there all along.
std::optional<Outcome> pair(const Graph& g, const Node& dq) {
  if (made_by(g, dq.inputs[0], "QuantizeLinear") == nullptr || g.uses(dq.inputs[0]) != 1) {
    return std::nullopt;
  }
  int left = 100;  // moves to look behind, in a graph of nothing but moves too
  const std::string op = float_reader(g, dq.outputs[0], left);
  if (op.empty()) return std::nullopt;
  return refuse("quantised for ", op, " alone, which computes in floats");
}

std::optional<Outcome> quantized(const Graph& g, const Node& n) {
  if (!has_result(n)) return std::nullopt;
  if (n.is("DequantizeLinear")) return pair(g, n);
  if (!is_product(n) || made_by(g, n.inputs[0], "DequantizeLinear") == nullptr) return std::nullopt;
  if (std::string why = why_no_integer_product(g, n); !why.empty()) return Refusal{why};
  return std::nullopt;
}

}  // namespace

Pass pass_quantized() { return node_pass("quantized", quantized); }

}  // namespace planck
