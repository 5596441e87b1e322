#include "ops/unary.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/activation.h"
#include "ops/elementwise.h"

namespace planck::ops {

namespace {

void keep_type(Inference& call) { set_type(call, 0, call.at(0).type.dtype, call.at(0).type.dims); }

void infer_float(std::string_view op, Inference& call) {
  need_float(op, call, 0);
  keep_type(call);
}

void infer_number(std::string_view op, Inference& call) {
  need_number(op, call, 0);
  keep_type(call);
}

void apply(Evaluation& call, auto&& f) { call.out[0] = map(call.at(0), call.at(0).dtype, f); }

template <class T>
T negative(T x) {
  return std::floating_point<T> ? static_cast<T>(-x) : wrapping_sub(T{0}, x);
}

template <class T>
T absolute(T x) {
  if constexpr (std::floating_point<T>)
    return std::abs(x);
  else
    return x < T{0} ? wrapping_sub(T{0}, x) : x;
}

template <class T>
T sign_of(T x) {
  if constexpr (std::floating_point<T>) {
    if (std::isnan(x)) return x;
  }
  return x > T{0} ? T{1} : (x < T{0} ? static_cast<T>(-1) : T{0});
}

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

}  // namespace

// Ops on floats: the formula sees a double.
#define PLANCK_FLOAT_UNARY(Op, version, formula)                      \
  void Op::infer(Inference& call) const { infer_float(kName, call); } \
  void Op::reference(Evaluation& call) const {                        \
    apply(call, [&]([[maybe_unused]] auto number) {                   \
      const auto x = static_cast<double>(number);                     \
      return formula;                                                 \
    });                                                               \
  }                                                                   \
  PLANCK_OP(Op, version)
// Ops on every number: the formula sees the type's own.
#define PLANCK_NUMBER_UNARY(Op, version, formula)                      \
  void Op::infer(Inference& call) const { infer_number(kName, call); } \
  void Op::reference(Evaluation& call) const {                         \
    apply(call, [](auto x) { return formula; });                       \
  }                                                                    \
  PLANCK_OP(Op, version)

PLANCK_NUMBER_UNARY(Abs, 13, absolute(x))
PLANCK_FLOAT_UNARY(Acos, 22, std::acos(x))
PLANCK_FLOAT_UNARY(Acosh, 22, std::acosh(x))
PLANCK_FLOAT_UNARY(Asin, 22, std::asin(x))
PLANCK_FLOAT_UNARY(Asinh, 22, std::asinh(x))
PLANCK_FLOAT_UNARY(Atan, 22, std::atan(x))
PLANCK_FLOAT_UNARY(Atanh, 22, std::atanh(x))
PLANCK_FLOAT_UNARY(Ceil, 13, std::ceil(x))
PLANCK_FLOAT_UNARY(Celu, 12, std::max(x, 0.0) + std::min(alpha * std::expm1(x / alpha), 0.0))
PLANCK_FLOAT_UNARY(Cos, 22, std::cos(x))
PLANCK_FLOAT_UNARY(Cosh, 22, std::cosh(x))
PLANCK_FLOAT_UNARY(Elu, 22, x < 0 ? alpha * std::expm1(x) : x)
PLANCK_FLOAT_UNARY(Erf, 13, std::erf(x))
PLANCK_FLOAT_UNARY(Exp, 13, std::exp(x))
PLANCK_FLOAT_UNARY(Floor, 13, std::floor(x))
PLANCK_FLOAT_UNARY(HardSigmoid, 22, std::min(std::max(alpha* x + beta, 0.0), 1.0))
PLANCK_FLOAT_UNARY(HardSwish, 22, hard_swish(x))
PLANCK_FLOAT_UNARY(LeakyRelu, 16, x < 0 ? alpha * x : x)
PLANCK_FLOAT_UNARY(Log, 13, std::log(x))
PLANCK_FLOAT_UNARY(Mish, 22, x* std::tanh(softplus(x)))
PLANCK_NUMBER_UNARY(Neg, 13, negative(x))
PLANCK_FLOAT_UNARY(Reciprocal, 13, 1 / x)
PLANCK_NUMBER_UNARY(Relu, 14, x < decltype(x){0} ? decltype(x){0} : x)
PLANCK_FLOAT_UNARY(Round, 22, std::nearbyint(x))
PLANCK_FLOAT_UNARY(Selu, 22, gamma*(x > 0 ? x : alpha * std::expm1(x)))
PLANCK_FLOAT_UNARY(Sigmoid, 13, sigmoid(x))
PLANCK_NUMBER_UNARY(Sign, 13, sign_of(x))
PLANCK_FLOAT_UNARY(Sin, 22, std::sin(x))
PLANCK_FLOAT_UNARY(Sinh, 22, std::sinh(x))
PLANCK_FLOAT_UNARY(Softplus, 22, softplus(x))
PLANCK_FLOAT_UNARY(Sqrt, 13, std::sqrt(x))
PLANCK_FLOAT_UNARY(Tan, 22, std::tan(x))
PLANCK_FLOAT_UNARY(Tanh, 13, std::tanh(x))
PLANCK_FLOAT_UNARY(ThresholdedRelu, 22, x > alpha ? x : 0)
#undef PLANCK_FLOAT_UNARY

void Swish::infer(Inference& call) const { infer_float(kName, call); }
void Swish::reference(Evaluation& call) const {
  apply(call, [](auto x) { return swish(static_cast<double>(x)); });
}
PLANCK_OWN_OP(Swish)
#undef PLANCK_NUMBER_UNARY

void Shrink::infer(Inference& call) const { infer_number(kName, call); }
void Shrink::reference(Evaluation& call) const {
  apply(call, [&](auto number) -> decltype(number) {
    const auto x = static_cast<double>(number);
    const double y = x < -lambd ? x + bias : x > lambd ? x - bias : 0;
    if constexpr (std::floating_point<decltype(number)>) return y;
    return static_cast<decltype(number)>(to_integer(y));
  });
}
PLANCK_OP(Shrink, 9)

void Gelu::infer(Inference& call) const {
  if (approximate != "none" && approximate != "tanh") {
    throw GraphError("Gelu: approximate is '", approximate, "', expected none or tanh");
  }
  infer_float(kName, call);
}
void Gelu::reference(Evaluation& call) const {
  const bool exact = approximate == "none";
  apply(call, [&](auto x) {
    return exact ? gelu(static_cast<double>(x)) : gelu_tanh(static_cast<double>(x));
  });
}
PLANCK_OP(Gelu, 20)

void Clip::infer(Inference& call) const {
  infer_number(kName, call);
  for (size_t i = 1; i < 3; ++i) {
    if (!call.has(i)) continue;
    need_same_type(kName, call, 0, i);
    const auto shape = known_shape(call.at(i).type.dims);
    if (shape && !std::ranges::all_of(*shape, [](int64_t d) { return d == 1; })) {
      throw GraphError("Clip: input ", i, " is ", call.at(i).type, ", expected a scalar");
    }
  }
}

void Clip::reference(Evaluation& call) const {
  Wide out = call.at(0);
  const auto bound = [&](size_t i, auto&& f) {
    if (!call.has(i)) return;
    if (call.at(i).count() != 1) throw RunError("Clip: input ", i, " is not a scalar");
    Wide limit = call.at(i);
    limit.shape = {};
    out = zip(out, limit, out.dtype, f);
  };
  bound(1, [](auto x, auto low) { return x < low ? low : x; });
  bound(2, [](auto x, auto high) { return high < x ? high : x; });
  call.out[0] = std::move(out);
}
PLANCK_OP(Clip, 13)

}  // namespace planck::ops
