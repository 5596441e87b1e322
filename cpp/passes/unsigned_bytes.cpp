// passes/unsigned_bytes.cpp: activations become u8, the one form that integer products read: an s8
// tensor with zero point z holds the same numbers as q + 128 with zero point z + 128.
#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>

#include "ops/quantize.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// Of a zero point, present or not, which must be constant; nothing for other types.
std::optional<Tensor> moved_zero(const Graph& g, ValueId zero, const Shape& shape) {
  std::byte* bytes = nullptr;
  if (zero == kAbsent) {
    const Tensor t = Tensor::make(DType::u8, shape, &bytes);
    std::fill_n(bytes, t.bytes(), std::byte{128});
    return t;
  }
  if (!is_constant(g, zero)) return std::nullopt;
  const Tensor& from = *g.value(zero).fact.constant;
  const Tensor t = Tensor::make(DType::u8, from.shape(), &bytes);
  std::transform(from.data(), from.data() + from.bytes(), bytes,
                 [](std::byte b) { return b ^ std::byte{0x80}; });
  return t;
}

std::optional<Shape> shape_of_scale(const Graph& g, const Node& n) {
  const Value& scale = g.value(n.inputs[1]);
  if (!scale.is_constant()) return std::nullopt;
  return scale.fact.constant->shape();
}

bool multiplies_bytes(const Graph& g) {
  constexpr std::string_view kProducts[] = {"MatMul",        "Gemm",          "Conv",
                                            "ConvTranspose", "planck.Linear", "planck.Convolution"};
  bool product = false, bytes = false;
  for (const Node& n : g.nodes()) {
    product = product || std::ranges::count(kProducts, n.op->text()) > 0;
    bytes = bytes || (n.is("DequantizeLinear") && !is_constant(g, n.inputs[0]));
  }
  return product && bytes;
}

// Q to s8 -> FlipSign(Q to u8)
std::optional<Outcome> quantize(const Graph& g, const Node& n) {
  const ValueId q = n.outputs[0];
  const auto shape = shape_of_scale(g, n);
  if (dtype_of(g, q) != DType::s8 || is_constant(g, n.inputs[0]) || !shape) return std::nullopt;
  auto zero = moved_zero(g, n.input(2), *shape);
  if (!zero) return std::nullopt;
  ops::QuantizeLinear attrs = n.as<ops::QuantizeLinear>();
  attrs.output_dtype = 0;
  Patch patch(g, n.id);
  const ValueId bytes =
      patch.add(attrs, {n.inputs[0], n.inputs[1], patch.constant(std::move(*zero))});
  patch.credit(bytes);
  patch.replace(q, patch.add(ops::FlipSign{}, {bytes}));
  return patch;
}

// DQ(FlipSign(q)) -> DQ(q); DQ of any other s8 that varies -> DQ(FlipSign(q)) in u8
std::optional<Outcome> dequantize(const Graph& g, const Node& n) {
  const ValueId q = n.inputs[0];
  const auto shape = shape_of_scale(g, n);
  if (dtype_of(g, q) != DType::s8 || is_constant(g, q) || !shape) return std::nullopt;
  auto zero = moved_zero(g, n.input(2), *shape);
  if (!zero) return std::nullopt;
  const Node* flip = made_by(g, q, "planck.FlipSign");
  Patch patch(g, n.id);
  const ValueId bytes = flip != nullptr ? flip->inputs[0] : patch.add(ops::FlipSign{}, {q});
  const ValueId out = patch.add(n.as<ops::DequantizeLinear>(),
                                {bytes, n.inputs[1], patch.constant(std::move(*zero))});
  patch.credit(out);
  patch.replace(n.outputs[0], out);
  return patch;
}

std::optional<Outcome> rewrite(const Graph& g, const Node& n) {
  if (n.is("QuantizeLinear")) return quantize(g, n);
  if (n.is("DequantizeLinear")) return dequantize(g, n);
  return std::nullopt;
}

}  // namespace

// Models without a product of bytes keep the types that they have.
Pass pass_unsigned_bytes() {
  const auto wanted = std::make_shared<std::optional<bool>>();
  const Pass pass = node_pass("unsigned_bytes", rewrite);
  return {pass.name,
          [wanted, pass](const Graph& g, NodeId from, PassReport& report) -> std::optional<Patch> {
            if (!*wanted) *wanted = multiplies_bytes(g);
            return **wanted ? pass.next(g, from, report) : std::nullopt;
          }};
}

}  // namespace planck
