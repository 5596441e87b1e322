#include "builder/formulas.h"

#include <algorithm>

#include "ops/cast.h"
#include "ops/unary.h"

namespace planck {
namespace {

using In = std::span<const int16_t>;

// One instruction; more operands than it reads are joined from the left.
template <TileOp op>
void plain(TileProgram& p, const Node&, In in) {
  if (info(op).arity == 1) {
    p.apply(op, in[0]);
  } else if (info(op).arity == 3) {
    p.apply(op, in[0], in[1], in[2]);
  } else {
    int16_t x = in[0];
    for (size_t i = 1; i < in.size(); ++i) x = p.apply(op, x, in[i]);
  }
}

template <TileOp op>
void swapped(TileProgram& p, const Node&, In in) {
  p.apply(op, in[1], in[0]);
}

void gelu(TileProgram& p, const Node& n, In in) {
  const bool tanh = n.as<ops::Gelu>().approximate == "tanh";
  p.apply(tanh ? TileOp::gelu_tanh : TileOp::gelu_erf, in[0]);
}

void clip(TileProgram& p, const Node&, In in) {
  int16_t x = in[0];
  if (in.size() > 1 && in[1] >= 0) x = p.apply(TileOp::max, x, in[1]);
  if (in.size() > 2 && in[2] >= 0) p.apply(TileOp::min, x, in[2]);
}

void prelu(TileProgram& p, const Node&, In in) {  // one of the two terms is 0
  const int16_t below = p.apply(TileOp::min, in[0], p.constant(0));
  const int16_t above = p.apply(TileOp::max, in[0], p.constant(0));
  p.apply(TileOp::add, above, p.apply(TileOp::mul, below, in[1]));
}

void hard_sigmoid(TileProgram& p, const Node& n, In in) {
  const auto& gate = n.as<ops::HardSigmoid>();
  const int16_t slope = p.constant(static_cast<float>(gate.alpha));
  const int16_t start = p.constant(static_cast<float>(gate.beta));
  const int16_t ramp = p.apply(TileOp::add, p.apply(TileOp::mul, in[0], slope), start);
  p.apply(TileOp::max, p.apply(TileOp::min, ramp, p.constant(1)), p.constant(0));
}

void leaky_relu(TileProgram& p, const Node& n, In in) {
  const int16_t slope = p.constant(static_cast<float>(n.as<ops::LeakyRelu>().alpha));
  const int16_t below = p.apply(TileOp::less, in[0], p.constant(0));
  p.apply(TileOp::select, below, p.apply(TileOp::mul, in[0], slope), in[0]);
}

void thresholded_relu(TileProgram& p, const Node& n, In in) {
  const int16_t from = p.constant(static_cast<float>(n.as<ops::ThresholdedRelu>().alpha));
  p.apply(TileOp::select, p.apply(TileOp::less, from, in[0]), in[0], p.constant(0));
}

void sign(TileProgram& p, const Node&, In in) {  // NaN and zeros stay
  const int16_t zero = p.constant(0);
  const int16_t below = p.apply(TileOp::less, in[0], zero);
  const int16_t above = p.apply(TileOp::less, zero, in[0]);
  const int16_t rest = p.apply(TileOp::select, above, p.constant(1), in[0]);
  p.apply(TileOp::select, below, p.constant(-1), rest);
}

// e^x - 1 = 2 t / (1 - t) with t = tanh(x / 2): as exact near 0 as elsewhere.
int16_t expm1(TileProgram& p, int16_t x) {
  const int16_t t = p.apply(TileOp::tanh, p.apply(TileOp::mul, x, p.constant(0.5f)));
  const int16_t below = p.apply(TileOp::sub, p.constant(1), t);
  return p.apply(TileOp::div, p.apply(TileOp::add, t, t), below);
}

// scale * (e^(x / width) - 1) for negative x, rise * x for others.
void exponential_below(TileProgram& p, int16_t x, double width, double scale, double rise) {
  const int16_t inner =
      width == 1 ? x : p.apply(TileOp::div, x, p.constant(static_cast<float>(width)));
  const int16_t low = p.apply(TileOp::mul, expm1(p, inner), p.constant(static_cast<float>(scale)));
  const int16_t below = p.apply(TileOp::less, x, p.constant(0));
  const int16_t high =
      rise == 1 ? x : p.apply(TileOp::mul, x, p.constant(static_cast<float>(rise)));
  p.apply(TileOp::select, below, low, high);
}

void elu(TileProgram& p, const Node& n, In in) {
  exponential_below(p, in[0], 1, n.as<ops::Elu>().alpha, 1);
}
void celu(TileProgram& p, const Node& n, In in) {
  const double alpha = n.as<ops::Celu>().alpha;
  exponential_below(p, in[0], alpha, alpha, 1);
}
void selu(TileProgram& p, const Node& n, In in) {
  const auto& s = n.as<ops::Selu>();
  exponential_below(p, in[0], 1, s.gamma * s.alpha, s.gamma);
}

// ln(1 + u) for u >= 0 as u ln(w) / (w - 1) with the rounded w = 1 + u, whose error cancels.
int16_t log1p(TileProgram& p, int16_t u) {
  const int16_t one = p.constant(1);
  const int16_t w = p.apply(TileOp::add, u, one);
  const int16_t quotient =
      p.apply(TileOp::div, p.apply(TileOp::log, w), p.apply(TileOp::sub, w, one));
  const int16_t exact = p.apply(TileOp::mul, u, quotient);
  return p.apply(TileOp::select, p.apply(TileOp::equal, w, one), u, exact);
}

// max(x, 0) + ln(1 + e^-|x|)
int16_t write_softplus(TileProgram& p, int16_t x) {
  const int16_t far = p.apply(TileOp::neg, p.apply(TileOp::abs, x));
  const int16_t tail = log1p(p, p.apply(TileOp::exp, far));
  return p.apply(TileOp::add, p.apply(TileOp::max, x, p.constant(0)), tail);
}
void softplus(TileProgram& p, const Node&, In in) { write_softplus(p, in[0]); }
void mish(TileProgram& p, const Node&, In in) {
  p.apply(TileOp::mul, in[0], p.apply(TileOp::tanh, write_softplus(p, in[0])));
}

// Truths are 1 and 0.
void negation(TileProgram& p, const Node&, In in) { p.apply(TileOp::sub, p.constant(1), in[0]); }
void exclusive_or(TileProgram& p, const Node&, In in) {
  p.apply(TileOp::abs, p.apply(TileOp::sub, in[0], in[1]));
}
void is_nan(TileProgram& p, const Node&, In in) {
  p.apply(TileOp::sub, p.constant(1), p.apply(TileOp::equal, in[0], in[0]));
}

// x, scale, zero point?
template <TileOp op>
void quantize(TileProgram& p, const Node&, In in) {
  const int16_t zero = in.size() > 2 && in[2] >= 0 ? in[2] : p.constant(0);
  p.apply(op, in[0], in[1], zero);
}
void dequantize(TileProgram& p, const Node&, In in) {
  int16_t x = in[0];
  if (in.size() > 2 && in[2] >= 0) {
    const TileInstr& zero = p.body[static_cast<size_t>(in[2])];
    if (zero.op != TileOp::constant || zero.imm != 0) x = p.apply(TileOp::sub, x, in[2]);
  }
  p.apply(TileOp::mul, x, in[1]);
}

// Bytes the other way: the distance is 128, whichever way it goes.
template <int distance>
void flip(TileProgram& p, const Node&, In in) {
  p.apply(TileOp::add, in[0], p.constant(distance));
}

void cast(TileProgram& p, const Node& n, In in) {
  if (dtype_of_onnx(static_cast<int>(n.as<ops::Cast>().to)) == DType::f32)
    return;  // a truth or an integer is its number already
  p.apply(TileOp::sub, p.constant(1), p.apply(TileOp::equal, in[0], p.constant(0)));
}

struct Row {
  std::string_view op;
  Formula formula;
};
constexpr Row kFormulas[] = {
    {"Abs", plain<TileOp::abs>},
    {"Add", plain<TileOp::add>},
    {"And", plain<TileOp::mul>},
    {"Cast", cast},
    {"Ceil", plain<TileOp::ceil>},
    {"Celu", celu},
    {"Clip", clip},
    {"Cos", plain<TileOp::cos>},
    {"DequantizeLinear", dequantize},
    {"Div", plain<TileOp::div>},
    {"Elu", elu},
    {"Equal", plain<TileOp::equal>},
    {"Erf", plain<TileOp::erf>},
    {"Exp", plain<TileOp::exp>},
    {"Floor", plain<TileOp::floor>},
    {"Gelu", gelu},
    {"Greater", swapped<TileOp::less>},
    {"GreaterOrEqual", swapped<TileOp::less_equal>},
    {"HardSigmoid", hard_sigmoid},
    {"HardSwish", plain<TileOp::hard_swish>},
    {"IsNaN", is_nan},
    {"LeakyRelu", leaky_relu},
    {"Less", plain<TileOp::less>},
    {"LessOrEqual", plain<TileOp::less_equal>},
    {"Log", plain<TileOp::log>},
    {"Max", plain<TileOp::max>},
    {"Min", plain<TileOp::min>},
    {"Mish", mish},
    {"Mul", plain<TileOp::mul>},
    {"Neg", plain<TileOp::neg>},
    {"Not", negation},
    {"Or", plain<TileOp::max>},
    {"PRelu", prelu},
    {"Pow", plain<TileOp::pow>},
    {"Reciprocal", plain<TileOp::reciprocal>},
    {"Relu", plain<TileOp::relu>},
    {"Round", plain<TileOp::round>},
    {"Selu", selu},
    {"Sigmoid", plain<TileOp::sigmoid>},
    {"Sign", sign},
    {"Sin", plain<TileOp::sin>},
    {"Softplus", softplus},
    {"Sqrt", plain<TileOp::sqrt>},
    {"Sub", plain<TileOp::sub>},
    {"Tanh", plain<TileOp::tanh>},
    {"ThresholdedRelu", thresholded_relu},
    {"Where", plain<TileOp::select>},
    {"Xor", exclusive_or},
};

}  // namespace

Formula formula_of(const Graph& g, const Node& n) {
  if (n.is("QuantizeLinear")) {
    const bool is_signed = g.value(n.outputs[0]).type().dtype == DType::s8;
    return is_signed ? quantize<TileOp::quantize_s8> : quantize<TileOp::quantize_u8>;
  }
  if (n.is("planck.FlipSign")) {
    return g.value(n.outputs[0]).type().dtype == DType::s8 ? flip<-128> : flip<128>;
  }
  if (n.is("planck.Swish")) return plain<TileOp::swish>;
  if (!n.op->domain.empty()) return nullptr;
  const auto* row = std::ranges::find(kFormulas, n.op->name, &Row::op);
  return row == std::end(kFormulas) ? nullptr : row->formula;
}

}  // namespace planck
