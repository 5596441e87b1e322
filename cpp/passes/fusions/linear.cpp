// passes/fusions/linear.cpp; y = x w + bias with a constant matrix w, from MatMul or Gemm
#include "ops/linear.h"

#include <optional>

#include "ops/matmul.h"
#include "ops/transpose.h"
#include "passes/passes.h"
#include "passes/quant_facts.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  return either({op("MatMul", {var("x"), constant("w")}),
                 op("Gemm", {var("x"), constant("w"), either({absent(), var("c")})})});
}

// Why a product with a constant is no Linear, or nothing.
std::string why_not(const Value& x, const Value& w) {
  if (!is_float(w.type().dtype)) return cat("w is ", w.type(), ", not of a float type");
  if (w.type().rank() != 2) return cat("w is ", w.type(), ", not a matrix");
  if (x.type().rank() < 2) return cat("x is ", x.type(), ", not rows");
  return "";
}

// A bias added by the one reader of the product: the Add, and what it adds.
struct Bias {
  const Node* add = nullptr;
  ValueId value = kAbsent;
};
Bias bias_behind(const Graph& g, ValueId product, int64_t width) {
  const Node* add = only_reader(g, product);
  if (add == nullptr || !add->is("Add")) return {};
  const ValueId value = other_input(*add, product);
  if (value == kAbsent || !same_dims(dims_of(g, add->outputs[0]), dims_of(g, product))) return {};
  Patch scratch(g, add->id);
  return as_row(scratch, g, value, width) == kAbsent ? Bias{} : Bias{add, value};
}

Outcome from_matmul(const Graph& g, const Match& m) {
  const int64_t width = m["w"].fact.constant->shape()[1];
  const Bias bias = bias_behind(g, m.root(), width);
  Patch patch(g, bias.add != nullptr ? bias.add->id : m.at());
  std::vector<ValueId> inputs{m["x"].id, m["w"].id};
  if (bias.add != nullptr) inputs.push_back(as_row(patch, g, bias.value, width));
  patch.replace(bias.add != nullptr ? bias.add->outputs[0] : m.root(),
                patch.add(ops::Linear{}, std::move(inputs)));
  return patch;
}

ValueId gemm_weight(Patch& patch, const Value& w, const ops::Gemm& gemm) {
  if (gemm.transB == 0 && gemm.alpha == 1) return w.id;
  const bool turn = gemm.transB != 0;
  const Tensor t = turn ? transposed_matrix(*w.fact.constant) : *w.fact.constant;
  const QuantFact grid = turn ? transposed_grid(w.quant) : w.quant;
  if (gemm.alpha == 1) return patch.constant(t, grid);
  const Tensor by_alpha = scaled(t, gemm.alpha);
  const double factor[] = {gemm.alpha};
  return patch.constant(by_alpha, scaled_grid(t, grid, by_alpha, 1, factor));
}

// Where Gemm's c goes: bias, residual, or neither.
struct Addend {
  ValueId bias = kAbsent, residual = kAbsent;
};
std::optional<Addend> gemm_addend(const Graph& g, Patch& patch, const Match& m, int64_t width) {
  const double beta = m.node().as<ops::Gemm>().beta;
  if (!m.has("c") || beta == 0) return Addend{};
  const Value& c = m["c"];
  const ValueId row = as_row(patch, g, c.id, width);
  if (row != kAbsent && (beta == 1 || is_constant(g, c.id))) {
    if (beta == 1) return Addend{row, kAbsent};
    return Addend{patch.constant(scaled(*patch.fact(row).constant, beta)), kAbsent};
  }
  const bool whole = same_dims(c.type().dims, dims_of(g, m.root()));
  return whole && beta == 1 ? std::optional(Addend{kAbsent, c.id}) : std::nullopt;
}

Outcome from_gemm(const Graph& g, const Match& m) {
  const auto& gemm = m.node().as<ops::Gemm>();
  const Shape& shape = m["w"].fact.constant->shape();
  Patch patch(g, m.at());
  const auto addend = gemm_addend(g, patch, m, shape[gemm.transB != 0 ? 0 : 1]);
  if (!addend) return refuse("c is ", m["c"].type(), " times ", gemm.beta, ", no bias or residual");
  ValueId x = m["x"].id;
  if (gemm.transA != 0) x = patch.add(ops::Transpose{{1, 0}}, {x});
  std::vector<ValueId> inputs{x, gemm_weight(patch, m["w"], gemm)};
  if (addend->bias != kAbsent || addend->residual != kAbsent) inputs.push_back(addend->bias);
  if (addend->residual != kAbsent) inputs.push_back(addend->residual);
  patch.replace(m.root(), patch.add(ops::Linear{}, std::move(inputs)));
  return patch;
}

Outcome rewrite(const Graph& g, const Match& m) {
  if (const std::string reason = why_not(m["x"], m["w"]); !reason.empty()) return Refusal{reason};
  return m.node().is("Gemm") ? from_gemm(g, m) : from_matmul(g, m);
}

}  // namespace

PLANCK_FUSION(linear)

}  // namespace planck
