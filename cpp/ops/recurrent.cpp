// RNN, GRU and LSTM by their formulas, step by step in double precision.
// Goals: every attribute of ONNX. Non-goals: speed (builder/lower_recurrent.cpp has the kernels).
#include "ops/recurrent.h"

#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

// --- activations ----------------------------------------------------------------------------

using Curve = double (*)(double x, double alpha, double beta);

struct NamedCurve {
  std::string_view name;
  int parameters;  // how many it takes of alpha, then of beta
  double alpha, beta;
  Curve curve;
};

constexpr NamedCurve kCurves[] = {
    {"affine", 2, 1, 0, [](double x, double a, double b) { return a * x + b; }},
    {"elu", 1, 1, 0, [](double x, double a, double) { return x < 0 ? a * std::expm1(x) : x; }},
    {"hardsigmoid", 2, 0.2, 0.5,
     [](double x, double a, double b) { return std::clamp(a * x + b, 0.0, 1.0); }},
    {"leakyrelu", 1, 0.01, 0, [](double x, double a, double) { return x < 0 ? a * x : x; }},
    {"relu", 0, 0, 0, [](double x, double, double) { return std::max(x, 0.0); }},
    {"scaledtanh", 2, 1, 1, [](double x, double a, double b) { return a * std::tanh(b * x); }},
    {"sigmoid", 0, 0, 0, [](double x, double, double) { return 1 / (1 + std::exp(-x)); }},
    {"softplus", 0, 0, 0,
     [](double x, double, double) {
       return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
     }},
    {"softsign", 0, 0, 0, [](double x, double, double) { return x / (1 + std::abs(x)); }},
    {"tanh", 0, 0, 0, [](double x, double, double) { return std::tanh(x); }},
    {"thresholdedrelu", 1, 1, 0, [](double x, double a, double) { return x > a ? x : 0; }},
};

struct Activation {
  Curve curve;
  double alpha, beta, clip;
  double operator()(double x) const { return unclipped(clip > 0 ? std::clamp(x, -clip, clip) : x); }
  double unclipped(double x) const { return curve(x, alpha, beta); }
};

const NamedCurve& named_curve(std::string_view op, const std::string& name) {
  std::string small = name;
  std::ranges::transform(small, small.begin(), [](char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  });
  const auto* row = std::ranges::find(kCurves, small, &NamedCurve::name);
  if (row == std::end(kCurves)) throw GraphError(op, ": there is no activation '", name, "'");
  return *row;
}

using Names = std::span<const std::string_view>;

// Those of all directions, one after the other; alphas and betas go to those that take some.
std::vector<Activation> activations_of(std::string_view op, const auto& self, Names usual,
                                       size_t directions) {
  std::vector<std::string> names = self.activations;
  for (size_t d = 0; self.activations.empty() && d < directions; ++d) {
    names.insert(names.end(), usual.begin(), usual.end());
  }
  if (names.size() != usual.size() * directions) {
    throw GraphError(op, " has ", names.size(), " activations, expected ",
                     usual.size() * directions);
  }
  std::vector<Activation> out;
  size_t alphas = 0, betas = 0;
  for (const std::string& name : names) {
    const NamedCurve& row = named_curve(op, name);
    Activation one{row.curve, row.alpha, row.beta, self.clip};
    if (row.parameters > 0 && alphas < self.activation_alpha.size()) {
      one.alpha = self.activation_alpha[alphas++];
    }
    if (row.parameters > 1 && betas < self.activation_beta.size()) {
      one.beta = self.activation_beta[betas++];
    }
    out.push_back(one);
  }
  return out;
}

size_t directions_of(std::string_view op, const auto& self) {
  if (self.direction == "forward" || self.direction == "reverse") return 1;
  if (self.direction == "bidirectional") return 2;
  throw GraphError(op, ": direction is '", self.direction,
                   "', expected forward, reverse or bidirectional");
}

// --- inference ------------------------------------------------------------------------------

void need_extent(std::string_view op, const Inference& call, size_t i, size_t axis, int64_t want) {
  const auto& type = call.at(i).type;
  if (type.dims[axis].is_constant() && type.dims[axis] != Dim(want)) {
    throw GraphError(op, ": input ", i, " is ", type, ", expected ", want, " along axis ", axis);
  }
}

// Ranks of x, w, r, bias, lengths, state, cell and peepholes.
constexpr int64_t kRanks[] = {3, 3, 3, 2, 1, 3, 3, 2};
constexpr size_t kLengths = 4;

void need_types(std::string_view op, const Inference& call) {
  need_float(op, call, 0);
  for (size_t i = 0; i < call.in.size(); ++i) {
    if (!call.has(i)) continue;
    need_rank(op, call, i, kRanks[i], kRanks[i]);
    if (i == kLengths) {
      need_integer(op, call, i);
    } else {
      need_same_type(op, call, 0, i);
    }
  }
}

void infer_recurrent(std::string_view op, const auto& self, int64_t gates, Names usual,
                     Inference& call) {
  need_types(op, call);
  const size_t directions = directions_of(op, self);
  activations_of(op, self, usual, directions);
  const auto& x = call.at(0).type;
  const Dim hidden = self.hidden_size > 0 ? Dim(self.hidden_size) : call.at(2).type.dims[2];
  for (size_t i = 1; i < 3; ++i) need_extent(op, call, i, 0, static_cast<int64_t>(directions));
  if (const auto count = hidden.known()) {
    for (size_t i = 1; i < 3; ++i) need_extent(op, call, i, 1, gates * *count);
    need_extent(op, call, 2, 2, *count);
  }
  const bool batch_first = self.layout != 0;
  const Dim steps = x.dims[batch_first ? 1 : 0], batch = x.dims[batch_first ? 0 : 1];
  const Dim sides(static_cast<int64_t>(directions));
  using Dims = std::vector<Dim>;
  for (size_t i = 0; i < call.out.size(); ++i) {
    if (i == 0) {
      set_type(call, i, x.dtype,
               batch_first ? Dims{batch, steps, sides, hidden} : Dims{steps, sides, batch, hidden});
    } else {
      set_type(call, i, x.dtype,
               batch_first ? Dims{batch, sides, hidden} : Dims{sides, batch, hidden});
    }
  }
}

// --- reference ------------------------------------------------------------------------------

// Sizes, and where the elements of a step and of a state lie.
struct Layout {
  int64_t steps, batch, input, hidden, directions;
  bool batch_first;

  size_t x(int64_t step, int64_t sample) const {
    return static_cast<size_t>((batch_first ? sample * steps + step : step * batch + sample) *
                               input);
  }
  size_t y(int64_t step, int64_t side, int64_t sample) const {
    const int64_t row = batch_first ? (sample * steps + step) * directions + side
                                    : (step * directions + side) * batch + sample;
    return static_cast<size_t>(row * hidden);
  }
  size_t state(int64_t side, int64_t sample) const {
    return static_cast<size_t>((batch_first ? sample * directions + side : side * batch + sample) *
                               hidden);
  }
};

Layout layout_of(std::string_view op, const auto& self, int64_t gates, const Evaluation& call) {
  const Shape& x = call.at(0).shape;
  const bool batch_first = self.layout != 0;
  const auto directions = static_cast<int64_t>(directions_of(op, self));
  const Layout out{.steps = x[batch_first ? 1 : 0],
                   .batch = x[batch_first ? 0 : 1],
                   .input = x[2],
                   .hidden = call.at(2).shape[2],
                   .directions = directions,
                   .batch_first = batch_first};
  const auto expect = [&](size_t i, const Shape& want) {
    if (call.has(i) && call.at(i).shape != want) {
      throw RunError(op, ": input ", i, " is ", shape_text(call.at(i).shape), ", expected ",
                     shape_text(want));
    }
  };
  expect(1, {out.directions, gates * out.hidden, out.input});
  expect(2, {out.directions, gates * out.hidden, out.hidden});
  expect(3, {out.directions, 2 * gates * out.hidden});
  expect(4, {out.batch});
  const Shape state = batch_first ? Shape{out.batch, out.directions, out.hidden}
                                  : Shape{out.directions, out.batch, out.hidden};
  expect(5, state);
  expect(6, state);
  expect(7, {out.directions, 3 * out.hidden});
  return out;
}

// One direction of one sample: its weights, its state, and the sums of a step.
struct Walker {
  const Layout& layout;
  const double *w, *r, *bias, *peephole;  // bias and peephole: null where there are none
  int64_t gates;
  std::vector<double> h, c, from_x, from_h;

  // Gate g of x and of the state, with their halves of the bias.
  void sum(const double* x, int64_t first, int64_t count, const std::vector<double>& state) {
    for (int64_t row = first * layout.hidden; row < (first + count) * layout.hidden; ++row) {
      check_guard_at(static_cast<size_t>(row));
      const auto at = static_cast<size_t>(row);
      double a = bias != nullptr ? bias[row] : 0;
      double b = bias != nullptr ? bias[gates * layout.hidden + row] : 0;
      for (int64_t k = 0; k < layout.input; ++k) a += x[k] * w[row * layout.input + k];
      for (int64_t k = 0; k < layout.hidden; ++k) {
        b += state[static_cast<size_t>(k)] * r[row * layout.hidden + k];
      }
      from_x[at] = a;
      from_h[at] = b;
    }
  }
  double gate(int64_t g, int64_t j) const {
    const auto at = static_cast<size_t>(g * layout.hidden + j);
    return from_x[at] + from_h[at];
  }
  double peep(int64_t g, int64_t j) const {
    return peephole != nullptr ? peephole[g * layout.hidden + j] * c[static_cast<size_t>(j)] : 0;
  }
};

void step(const RNN&, Walker& s, const double* x, const Activation* f) {
  s.sum(x, 0, 1, s.h);
  for (int64_t j = 0; j < s.layout.hidden; ++j) s.h[static_cast<size_t>(j)] = f[0](s.gate(0, j));
}

void step(const GRU& self, Walker& s, const double* x, const Activation* f) {
  constexpr int64_t kUpdate = 0, kReset = 1, kNew = 2;
  const int64_t hidden = s.layout.hidden;
  s.sum(x, kUpdate, 2, s.h);
  const bool before = self.linear_before_reset != 0;
  std::vector<double> reset(s.h), read(s.h);
  for (int64_t j = 0; j < hidden; ++j) {
    const auto at = static_cast<size_t>(j);
    reset[at] = f[0](s.gate(kReset, j));
    if (!before) read[at] = reset[at] * s.h[at];
  }
  s.sum(x, kNew, 1, read);
  for (int64_t j = 0; j < hidden; ++j) {
    const auto at = static_cast<size_t>(j), place = static_cast<size_t>(kNew * hidden + j);
    const double scale = before ? reset[at] : 1;
    const double fresh = f[1](s.from_x[place] + scale * s.from_h[place]);
    const double update = f[0](s.gate(kUpdate, j));
    s.h[at] = (1 - update) * fresh + update * s.h[at];
  }
}

void step(const LSTM& self, Walker& s, const double* x, const Activation* f) {
  constexpr int64_t kInput = 0, kOutput = 1, kForget = 2, kCell = 3;  // as peepholes, too
  s.sum(x, kInput, 4, s.h);
  for (int64_t j = 0; j < s.layout.hidden; ++j) {
    const auto at = static_cast<size_t>(j);
    const double in = f[0](s.gate(kInput, j) + s.peep(kInput, j));
    const double keep =
        self.input_forget != 0 ? 1 - in : f[0](s.gate(kForget, j) + s.peep(kForget, j));
    s.c[at] = keep * s.c[at] + in * f[1](s.gate(kCell, j));
    s.h[at] = f[0](s.gate(kOutput, j) + s.peep(kOutput, j)) * f[2].unclipped(s.c[at]);
  }
}

const double* data_of(const Evaluation& call, size_t i, size_t offset) {
  return call.has(i) ? call.at(i).real.data() + offset : nullptr;
}

std::vector<double> begin_of(const Evaluation& call, size_t i, size_t at, int64_t hidden) {
  if (!call.has(i)) return std::vector<double>(static_cast<size_t>(hidden));
  const auto from = call.at(i).real.begin() + static_cast<std::ptrdiff_t>(at);
  return {from, from + hidden};
}

int64_t length_of(std::string_view op, const Evaluation& call, int64_t sample, int64_t steps) {
  if (!call.has(kLengths)) return steps;
  const int64_t length = call.at(kLengths).integer[static_cast<size_t>(sample)];
  if (length < 0 || length > steps) {
    throw RunError(op, ": sequence_lens holds ", length, ", outside [0, ", steps, "]");
  }
  return length;
}

template <class Op>
void run_recurrent(const Op& self, int64_t gates, Names usual, Evaluation& call) {
  const Layout layout = layout_of(Op::kName, self, gates, call);
  const auto all = activations_of(Op::kName, self, usual, static_cast<size_t>(layout.directions));
  const int64_t hidden = layout.hidden, rows = gates * hidden;
  const Shape state = layout.batch_first ? Shape{layout.batch, layout.directions, hidden}
                                         : Shape{layout.directions, layout.batch, hidden};
  const Shape states = layout.batch_first
                           ? Shape{layout.batch, layout.steps, layout.directions, hidden}
                           : Shape{layout.steps, layout.directions, layout.batch, hidden};
  for (size_t i = 0; i < call.out.size(); ++i) {
    call.out[i] = make_wide(call.at(0).dtype, i == 0 ? states : state);
  }
  const auto keep = [&](size_t i, size_t at, const std::vector<double>& values) {
    if (i >= call.out.size()) return;
    std::ranges::copy(values, call.out[i].real.begin() + static_cast<std::ptrdiff_t>(at));
  };
  for (int64_t side = 0; side < layout.directions; ++side) {
    const auto part = static_cast<size_t>(side);
    const bool backwards = side == 1 || self.direction == "reverse";
    const Activation* f = all.data() + part * usual.size();
    for (int64_t sample = 0; sample < layout.batch; ++sample) {
      const size_t place = layout.state(side, sample);
      Walker s{layout,
               data_of(call, 1, part * static_cast<size_t>(rows * layout.input)),
               data_of(call, 2, part * static_cast<size_t>(rows * hidden)),
               data_of(call, 3, part * static_cast<size_t>(2 * rows)),
               data_of(call, 7, part * static_cast<size_t>(3 * hidden)),
               gates,
               begin_of(call, 5, place, hidden),
               begin_of(call, 6, place, hidden),
               std::vector<double>(static_cast<size_t>(rows)),
               std::vector<double>(static_cast<size_t>(rows))};
      const int64_t length = length_of(Op::kName, call, sample, layout.steps);
      for (int64_t i = 0; i < length; ++i) {
        const int64_t at = backwards ? length - 1 - i : i;
        step(self, s, call.at(0).real.data() + layout.x(at, sample), f);
        keep(0, layout.y(at, side, sample), s.h);
      }
      keep(1, place, s.h);
      keep(2, place, s.c);
    }
  }
}

constexpr std::string_view kOfRnn[] = {"Tanh"}, kOfGru[] = {"Sigmoid", "Tanh"},
                           kOfLstm[] = {"Sigmoid", "Tanh", "Tanh"};

}  // namespace

void GRU::infer(Inference& call) const { infer_recurrent(kName, *this, 3, kOfGru, call); }
void GRU::reference(Evaluation& call) const { run_recurrent(*this, 3, kOfGru, call); }
PLANCK_OP(GRU, 22)

void LSTM::infer(Inference& call) const { infer_recurrent(kName, *this, 4, kOfLstm, call); }
void LSTM::reference(Evaluation& call) const { run_recurrent(*this, 4, kOfLstm, call); }
PLANCK_OP(LSTM, 22)

void RNN::infer(Inference& call) const { infer_recurrent(kName, *this, 1, kOfRnn, call); }
void RNN::reference(Evaluation& call) const { run_recurrent(*this, 1, kOfRnn, call); }
PLANCK_OP(RNN, 22)

}  // namespace planck::ops
