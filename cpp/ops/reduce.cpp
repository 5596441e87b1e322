#include "ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "ops/elementwise.h"

namespace planck::ops {

namespace {

struct Options {
  bool keepdims, noop;
};

// Which axes go: a flag for each.
std::vector<bool> reduced_axes(const std::vector<int64_t>* axes, size_t rank, const Options& o) {
  if (axes == nullptr || axes->empty()) return std::vector<bool>(rank, !o.noop);
  std::vector<bool> out(rank, false);
  for (const int64_t axis : checked_axes(*axes, static_cast<int64_t>(rank))) {
    out[static_cast<size_t>(axis)] = true;
  }
  return out;
}

template <class T>
std::vector<T> reduced_dims(const std::vector<T>& dims, const std::vector<bool>& gone,
                            bool keepdims) {
  std::vector<T> out;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (!gone[i]) out.push_back(dims[i]);
    if (gone[i] && keepdims) out.push_back(T(1));
  }
  return out;
}

void infer_reduce(std::string_view op, Inference& call, const Options& o) {
  const auto& data = call.at(0).type;
  const auto axes = call.has(1) ? needed_numbers(op, "axes", call, 1) : std::vector<int64_t>();
  const auto gone = reduced_axes(&axes, data.dims.size(), o);
  set_type(call, 0, data.dtype, reduced_dims(data.dims, gone, o.keepdims));
}

void infer_numbers(std::string_view op, Inference& call, const Options& o) {
  need_number(op, call, 0);
  infer_reduce(op, call, o);
}

// Element indices of x so that those which one result reads follow one another.
std::vector<int64_t> grouped(const Shape& shape, const std::vector<bool>& gone) {
  const std::vector<Walk> plain = plain_walks(shape);
  std::vector<Walk> walks;
  for (const bool inner : {false, true}) {
    for (size_t i = 0; i < plain.size(); ++i) {
      if (gone[i] == inner) walks.push_back(plain[i]);
    }
  }
  return walk(walks).index;
}

// Each result is f(what it reduces), a span of double, int64_t or uint64_t.
void reduce(Evaluation& call, const Options& o, auto&& f) {
  const Wide& x = call.at(0);
  const auto gone = reduced_axes(call.has(1) ? &integers(call, 1) : nullptr, x.shape.size(), o);
  Wide out = make_wide(x.dtype, reduced_dims(x.shape, gone, o.keepdims));
  const auto count = static_cast<size_t>(out.count());
  const size_t length = count == 0 ? 0 : static_cast<size_t>(x.count()) / count;
  const std::vector<int64_t> index =
      x.count() == 0 ? std::vector<int64_t>() : grouped(x.shape, gone);
  with_numbers(x.dtype, [&](auto&& read) {
    std::vector<decltype(read(x, 0))> values(length);
    for (size_t i = 0; i < count; ++i) {
      check_guard();
      for (size_t k = 0; k < length; ++k) {
        check_guard_at(k);
        values[k] = read(x, static_cast<size_t>(index[i * length + k]));
      }
      store(out, i, f(std::span<const decltype(read(x, 0))>(values)));
    }
  });
  call.out[0] = std::move(out);
}

// Roots and logarithms of integers truncate, as NumPy's cast does.
template <class T>
auto as_type(double value) {
  if constexpr (std::floating_point<T>)
    return value;
  else
    return to_integer(value);
}

template <class T>
T sum(std::span<const T> values) {
  T total = 0;
  for (const T v : values) total = wrapping_add(total, v);
  return total;
}

template <class T>
T absolute_sum(std::span<const T> values) {
  T total = 0;
  for (const T v : values) total = v < T{0} ? wrapping_sub(total, v) : wrapping_add(total, v);
  return total;
}

template <class T>
T square_sum(std::span<const T> values) {
  T total = 0;
  for (const T v : values) total = wrapping_add(total, wrapping_mul(v, v));
  return total;
}

template <class T>
T total_product(std::span<const T> values) {
  T total = 1;
  for (const T v : values) total = wrapping_mul(total, v);
  return total;
}

template <class T>
T mean(std::span<const T> values) {
  const auto count = static_cast<T>(values.size());
  if constexpr (std::floating_point<T>) {
    return sum(values) / count;
  } else {
    return count == T{0} ? T{0} : sum(values) / count;
  }
}

template <class T>
auto root_of_squares(std::span<const T> values) {
  double total = 0;
  for (const T v : values) total += static_cast<double>(v) * static_cast<double>(v);
  return as_type<T>(std::sqrt(total));
}

template <class T>
auto log_sum(std::span<const T> values) {
  return as_type<T>(std::log(static_cast<double>(sum(values))));
}

template <class T>
auto log_sum_exp(std::span<const T> values) {
  double top = -std::numeric_limits<double>::infinity(), total = 0;
  for (const T v : values) top = std::max(top, static_cast<double>(v));
  if (!std::isfinite(top)) top = 0;  // inf - inf would be NaN
  for (const T v : values) total += std::exp(static_cast<double>(v) - top);
  return as_type<T>(std::log(total) + top);
}

// Of nothing: the neutral element, an infinity or the type's last number.
template <class T>
constexpr T end_of(bool high) {
  using Limits = std::numeric_limits<T>;
  if constexpr (std::floating_point<T>)
    return high ? Limits::infinity() : -Limits::infinity();
  else
    return high ? Limits::max() : Limits::min();
}

template <class T>
T extreme(std::span<const T> values, bool high) {
  T best = end_of<T>(!high);
  for (const T v : values) {
    if (v != v) return v;  // NaN wins
    best = high ? std::max(best, v) : std::min(best, v);
  }
  return best;
}

// Narrow integers: the type's own ends, which the wide form does not know.
void reduce_extreme(Evaluation& call, const Options& o, bool high) {
  const DType dtype = call.at(0).dtype;
  if (call.at(0).count() == 0 && !is_float(dtype)) {
    throw RunError("the largest or smallest of no ", dtype, " is not defined");
  }
  reduce(call, o, [&](auto values) { return extreme(values, high); });
}

}  // namespace

#define PLANCK_REDUCE(Op, version, infer_types, body)                     \
  void Op::infer(Inference& call) const {                                 \
    infer_types(kName, call, {keepdims != 0, noop_with_empty_axes != 0}); \
  }                                                                       \
  void Op::reference(Evaluation& call) const {                            \
    const Options options{keepdims != 0, noop_with_empty_axes != 0};      \
    body;                                                                 \
  }                                                                       \
  PLANCK_OP(Op, version)
#define PLANCK_FOLD(f) reduce(call, options, [](auto values) { return f(values); })

PLANCK_REDUCE(ReduceL1, 18, infer_numbers, PLANCK_FOLD(absolute_sum))
PLANCK_REDUCE(ReduceL2, 18, infer_numbers, PLANCK_FOLD(root_of_squares))
PLANCK_REDUCE(ReduceLogSum, 18, infer_numbers, PLANCK_FOLD(log_sum))
PLANCK_REDUCE(ReduceLogSumExp, 18, infer_numbers, PLANCK_FOLD(log_sum_exp))
PLANCK_REDUCE(ReduceMax, 20, infer_reduce, reduce_extreme(call, options, true))
PLANCK_REDUCE(ReduceMean, 18, infer_numbers, PLANCK_FOLD(mean))
PLANCK_REDUCE(ReduceMin, 20, infer_reduce, reduce_extreme(call, options, false))
PLANCK_REDUCE(ReduceProd, 18, infer_numbers, PLANCK_FOLD(total_product))
PLANCK_REDUCE(ReduceSum, 13, infer_numbers, PLANCK_FOLD(sum))
PLANCK_REDUCE(ReduceSumSquare, 18, infer_numbers, PLANCK_FOLD(square_sum))
#undef PLANCK_FOLD
#undef PLANCK_REDUCE

}  // namespace planck::ops
