// passes/fusions/conv_affine.cpp; conv(x, w) times or plus one constant for each channel, folded
// into the weights: what is left of a batch normalization. Transposed convolutions too.
#include <optional>

#include "base/checked.h"
#include "ops/conv.h"
#include "passes/passes.h"
#include "passes/quant_facts.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  const Pat bias = either({absent(), constant("bias")});
  const Pat conv = either({named("conv", op("planck.Convolution", {var("x"), constant("w"), bias})),
                           named("conv", op("ConvTranspose", {var("x"), constant("w"), bias}))});
  return either({op("Add", {conv, constant("c")}), op("Mul", {conv, constant("c")}),
                 op("Sub", {conv, constant("c")}), op("Div", {conv, constant("c")})});
}

// A constant that broadcasts along axis 1 of a tensor of the given rank, as one number a channel.
std::optional<Wide> by_channel(const Tensor& t, size_t rank, int64_t channels) {
  if (t.shape().size() > rank) return std::nullopt;
  const size_t skip = rank - t.shape().size();
  for (size_t i = 0; i < t.shape().size(); ++i) {
    const bool fits = t.shape()[i] == 1 || (skip + i == 1 && t.shape()[i] == channels);
    if (!fits) return std::nullopt;
  }
  const Wide given = widen(t);
  Wide out = make_wide(t.dtype(), {channels});
  for (int64_t i = 0; i < channels; ++i) {
    out.real[static_cast<size_t>(i)] = given.real[given.count() == 1 ? 0 : static_cast<size_t>(i)];
  }
  return out;
}

// The channels lie along the axis `at` of the weights.
Tensor combined(const Tensor& weights, size_t at, const Wide& c, auto&& f) {
  Wide w = widen(weights);
  const int64_t inner = checked_count(std::span(w.shape).subspan(at + 1));
  for (int64_t i = 0; i < w.count(); ++i) {
    double& number = w.real[static_cast<size_t>(i)];
    number = f(number, c.real[static_cast<size_t>(i / inner % c.count())]);
  }
  return narrow(w);
}

std::vector<double> factors_of(const Wide& c, bool divides) {
  std::vector<double> out = c.real;
  for (double& f : out) f = divides ? 1 / f : f;
  return out;
}

// Why nothing can be folded into the convolution, or nothing.
std::string why_not(const Node& conv) {
  if (conv.is("ConvTranspose")) {
    const int64_t groups = conv.as<ops::ConvTranspose>().group;
    return groups == 1 ? "" : cat("the transposed convolution has ", groups, " groups");
  }
  const std::string& activation = conv.as<ops::Convolution>().activation;
  return activation.empty() ? "" : cat("the convolution ends in ", activation, " already");
}

Tensor bias_or_zero(const Match& m, int64_t channels) {
  if (m.has("bias")) return *m["bias"].fact.constant;
  return filled(m["w"].type().dtype, {channels}, 0);
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Node& conv = *g.producer(m["conv"].id);
  if (const std::string why = why_not(conv); !why.empty()) return Refusal{why};
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  const Tensor& weights = *m["w"].fact.constant;
  const size_t axis = conv.is("ConvTranspose") ? 1 : 0;
  const int64_t channels = weights.shape()[axis];
  const auto c = by_channel(*m["c"].fact.constant, weights.shape().size(), channels);
  if (!c || channels == 0) return refuse("c is ", m["c"].type(), ", not one number a channel");

  Patch patch(g, m.at());
  std::vector<ValueId> inputs = conv.inputs;
  inputs.resize(3, kAbsent);
  if (m.node().is("Add") || m.node().is("Sub")) {
    const double sign = m.node().is("Add") ? 1 : -1;
    const auto add = [&](double a, double b) { return a + sign * b; };
    inputs[2] = patch.constant(combined(bias_or_zero(m, channels), 0, *c, add));
  } else {
    const bool divides = m.node().is("Div");
    const auto scale = [&](double a, double b) { return divides ? a / b : a * b; };
    const Tensor product = combined(weights, axis, *c, scale);
    const QuantFact grid = scaled_grid(weights, m["w"].quant, product, static_cast<int64_t>(axis),
                                       factors_of(*c, divides));
    if (m["w"].quant != nullptr && grid == nullptr) {
      return refuse("times c the weights would leave the grid that they lie on");
    }
    inputs[1] = patch.constant(product, grid);
    if (m.has("bias")) {
      inputs[2] = patch.constant(combined(*m["bias"].fact.constant, 0, *c, scale));
    }
  }
  patch.replace(m.root(), patch.add(conv.op->text(), std::move(inputs), conv.attrs));
  return patch;
}

}  // namespace

PLANCK_FUSION(conv_affine)

}  // namespace planck
