#include "ops/binary.h"

#include <cmath>
#include <optional>

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

void infer_pair(std::string_view op, Inference& call) {
  need_number(op, call, 0);
  need_same_type(op, call, 0, 1);
  set_type(call, 0, call.at(0).type.dtype, broadcast(call.at(0).type.dims, call.at(1).type.dims));
}

template <class T>
T divided(T a, T b) {
  if constexpr (std::floating_point<T>) {
    return a / b;
  } else {
    if (b == 0) throw RunError("an integer is divided by zero");
    if (b == static_cast<T>(-1)) {  // the smallest integer by -1 traps
      return std::signed_integral<T> ? wrapping_sub(T{0}, a) : static_cast<T>(a == b);
    }
    return static_cast<T>(a / b);
  }
}

template <class T>
T floor_mod(T a, T b) {
  if constexpr (std::floating_point<T>) {
    const T r = std::fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  } else {
    if (b == 0) throw RunError("an integer is divided by zero");
    if constexpr (std::signed_integral<T>) {
      if (b == -1) return 0;
      const T r = a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    } else {
      return a % b;
    }
  }
}

template <class T>
T c_mod(T a, T b) {
  if constexpr (std::floating_point<T>) {
    return std::fmod(a, b);
  } else {
    return wrapping_sub(a, wrapping_mul(divided(a, b), b));
  }
}

// Truncation equals flooring where both operands are known not to be negative.
std::optional<Dim> divided_dims(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return Dim(divided(a.constant(), b.constant()));
  if (auto exact = exact_div(a, b)) return exact;
  if (at_least(a, 0) && at_least(b, 1)) return floordiv(a, b);
  return std::nullopt;
}

std::optional<Dim> mod_dims(const Dim& a, const Dim& b, bool c_rule) {
  if (!at_least(b, 1)) return std::nullopt;
  if (c_rule && !at_least(a, 0)) return std::nullopt;
  return mod(a, b);
}

int64_t integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return base == 1 ? 1 : (base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0);
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result = wrapping_mul(result, base);
    base = wrapping_mul(base, base);
  }
  return result;
}

// NaN wins over every number, as in NumPy.
template <class T>
T lower(T a, T b) {
  if constexpr (std::floating_point<T>) {
    if (std::isnan(a) || std::isnan(b)) return a + b;
  }
  return b < a ? b : a;
}
template <class T>
T higher(T a, T b) {
  if constexpr (std::floating_point<T>) {
    if (std::isnan(a) || std::isnan(b)) return a + b;
  }
  return a < b ? b : a;
}

Contents all_contents(const Inference& call, Dim (*f)(const Dim&, const Dim&)) {
  Contents sum = contents_of(call, 0);
  for (size_t i = 1; i < call.in.size() && sum; ++i) {
    // Equal shapes only: shape arithmetic with Min and Max compares like with like.
    const Contents next = contents_of(call, i);
    if (!next || call.at(i).type.dims != call.at(0).type.dims) return std::nullopt;
    for (size_t k = 0; k < sum->size(); ++k) (*sum)[k] = f((*sum)[k], (*next)[k]);
  }
  return sum;
}

void infer_all(std::string_view op, Inference& call, Dim (*f)(const Dim&, const Dim&)) {
  need_number(op, call, 0);
  std::vector<Dim> dims = call.at(0).type.dims;
  for (size_t i = 1; i < call.in.size(); ++i) {
    need_same_type(op, call, 0, i);
    dims = broadcast(dims, call.at(i).type.dims);
  }
  set_type(call, 0, call.at(0).type.dtype, std::move(dims));
  set_contents(call, 0, contents_if([&] { return all_contents(call, f); }));
}

void evaluate_all(Evaluation& call, auto&& f) {
  Wide out = call.at(0);
  for (size_t i = 1; i < call.in.size(); ++i) out = zip(out, call.at(i), out.dtype, f);
  call.out[0] = std::move(out);
}

}  // namespace

#define PLANCK_BINARY(Op, version, formula, symbolic)                                          \
  void Op::infer(Inference& call) const {                                                      \
    infer_pair(kName, call);                                                                   \
    set_contents(call, 0,                                                                      \
                 zip_contents(call, [](const Dim& a, const Dim& b) -> std::optional<Dim> {     \
                   return symbolic;                                                            \
                 }));                                                                          \
  }                                                                                            \
  void Op::reference(Evaluation& call) const {                                                 \
    call.out[0] =                                                                              \
        zip(call.at(0), call.at(1), call.at(0).dtype, [](auto a, auto b) { return formula; }); \
  }                                                                                            \
  PLANCK_OP(Op, version)

PLANCK_BINARY(Add, 14, wrapping_add(a, b), a + b)
PLANCK_BINARY(Sub, 14, wrapping_sub(a, b), a - b)
PLANCK_BINARY(Mul, 14, wrapping_mul(a, b), a* b)
PLANCK_BINARY(Div, 14, divided(a, b), divided_dims(a, b))
#undef PLANCK_BINARY

void Pow::infer(Inference& call) const {
  need_number(kName, call, 0);
  need_number(kName, call, 1);
  set_type(call, 0, call.at(0).type.dtype, broadcast(call.at(0).type.dims, call.at(1).type.dims));
}

void Pow::reference(Evaluation& call) const {
  const Wide &base = call.at(0), &exponent = call.at(1);
  if (!base.floating() && !exponent.floating()) {
    call.out[0] = zip(base, exponent, base.dtype, [](auto a, auto b) {
      return integer_power(static_cast<int64_t>(a), static_cast<int64_t>(b));
    });
    return;
  }
  const auto real = [](const Wide& w) {
    return w.floating() ? w : map(w, DType::f64, [](auto v) { return static_cast<double>(v); });
  };
  Wide out = zip(real(base), real(exponent), DType::f64, [](auto a, auto b) {
    return std::pow(static_cast<double>(a), static_cast<double>(b));
  });
  if (base.floating()) {
    out.dtype = base.dtype;
    call.out[0] = std::move(out);
  } else {  // truncation; what no integer holds saturates
    call.out[0] = map(out, base.dtype, [](auto v) { return to_integer(static_cast<double>(v)); });
  }
}
PLANCK_OP(Pow, 15)

void PRelu::infer(Inference& call) const {
  infer_pair(kName, call);
  if (call.out[0].type.rank() == call.at(0).type.rank()) return;
  throw GraphError("PRelu: the slope ", call.at(1).type, " does not fit ", call.at(0).type);
}
void PRelu::reference(Evaluation& call) const {
  call.out[0] = zip(call.at(0), call.at(1), call.at(0).dtype, [](auto x, auto slope) {
    return x < decltype(x){0} ? wrapping_mul(slope, x) : x;
  });
}
PLANCK_OP(PRelu, 16)

void Mod::infer(Inference& call) const {
  infer_pair(kName, call);
  set_contents(call, 0, zip_contents(call, [&](const Dim& a, const Dim& b) {
                 return mod_dims(a, b, fmod != 0);
               }));
}

void Mod::reference(Evaluation& call) const {
  call.out[0] = zip(call.at(0), call.at(1), call.at(0).dtype,
                    [&](auto a, auto b) { return fmod == 0 ? floor_mod(a, b) : c_mod(a, b); });
}
PLANCK_OP(Mod, 13)

void Min::infer(Inference& call) const { infer_all(kName, call, smaller); }
void Min::reference(Evaluation& call) const {
  evaluate_all(call, [](auto a, auto b) { return lower(a, b); });
}
PLANCK_OP(Min, 13)

void Max::infer(Inference& call) const { infer_all(kName, call, larger); }
void Max::reference(Evaluation& call) const {
  evaluate_all(call, [](auto a, auto b) { return higher(a, b); });
}
PLANCK_OP(Max, 13)

}  // namespace planck::ops
