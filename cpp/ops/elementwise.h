#pragma once
// Loops of the element-wise references. A formula is a generic lambda: numbers come as double,
// int64_t, or uint64_t for u64, so that one text serves every type and integers stay exact.
#include <cmath>
#include <concepts>

#include "base/checked.h"
#include "ops/support.h"

namespace planck {

// Integer arithmetic modulo 2^64: the caller wraps the result to the declared width. Signed
// overflow would be undefined.
template <class T>
T wrapping_add(T a, T b) {
  if constexpr (std::floating_point<T>)
    return a + b;
  else
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
template <class T>
T wrapping_sub(T a, T b) {
  if constexpr (std::floating_point<T>)
    return a - b;
  else
    return static_cast<T>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}
template <class T>
T wrapping_mul(T a, T b) {
  if constexpr (std::floating_point<T>)
    return a * b;
  else
    return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

// Towards zero; NaN gives 0 and what does not fit saturates, where C leaves it undefined.
inline int64_t to_integer(double value) {
  if (std::isnan(value)) return 0;
  if (value >= 0x1p63) return INT64_MAX;
  return value < -0x1p63 ? INT64_MIN : static_cast<int64_t>(value);
}

inline void store(Wide& out, size_t i, auto value) {
  if (out.floating()) {
    out.real[i] = static_cast<double>(value);
  } else {
    out.integer[i] = static_cast<int64_t>(value);
  }
}

// Calls body(read), where read(w, i) gives element i of w as the type's number.
void with_numbers(DType dtype, auto&& body) {
  if (is_float(dtype)) {
    body([](const Wide& w, size_t i) { return w.real[i]; });
  } else if (dtype == DType::u64) {
    body([](const Wide& w, size_t i) { return static_cast<uint64_t>(w.integer[i]); });
  } else {
    body([](const Wide& w, size_t i) { return w.integer[i]; });
  }
}

Wide map(const Wide& x, DType dtype, auto&& f) {
  Wide out = make_wide(dtype, x.shape);
  const auto count = static_cast<size_t>(x.count());
  with_numbers(x.dtype, [&](auto&& read) {
    for (size_t i = 0; i < count; ++i) {
      check_guard_at(i);
      store(out, i, f(read(x, i)));
    }
  });
  return out;
}

// Calls body(i, ia, ib) for each element i of `shape`, in row-major order, with the elements of a
// and b that broadcast to it. Nothing is materialised: a comparison of a large model lives from
// that.
void each_pair(const Shape& shape, const Shape& a, const Shape& b, auto&& body) {
  const auto steps_of = [&](const Shape& from) {
    std::vector<int64_t> steps(shape.size(), 0);
    int64_t stride = 1;
    for (size_t i = from.size(); i-- > 0;) {
      steps[shape.size() - from.size() + i] = from[i] == 1 ? 0 : stride;
      stride *= from[i];
    }
    return steps;
  };
  const std::vector<int64_t> step_a = steps_of(a), step_b = steps_of(b);
  const auto count = static_cast<size_t>(checked_count(shape));
  std::vector<int64_t> at(shape.size(), 0);
  int64_t ia = 0, ib = 0;
  for (size_t i = 0; i < count; ++i) {
    body(i, static_cast<size_t>(ia), static_cast<size_t>(ib));
    for (size_t axis = shape.size(); axis-- > 0;) {
      ia += step_a[axis];
      ib += step_b[axis];
      if (++at[axis] < shape[axis]) break;
      ia -= step_a[axis] * shape[axis];
      ib -= step_b[axis] * shape[axis];
      at[axis] = 0;
    }
  }
}

// Both inputs are read as the type of `a`.
Wide zip(const Wide& a, const Wide& b, DType dtype, auto&& f) {
  if (a.floating() != b.floating()) throw RunError(a.dtype, " and ", b.dtype, " do not mix");
  Shape shape = broadcast_shapes(a.shape, b.shape);
  Wide out = make_wide(dtype, shape);
  const auto count = static_cast<size_t>(out.count());
  with_numbers(a.dtype, [&](auto&& read) {
    if (a.shape == b.shape) {
      for (size_t i = 0; i < count; ++i) {
        check_guard_at(i);
        store(out, i, f(read(a, i), read(b, i)));
      }
      return;
    }
    each_pair(shape, a.shape, b.shape, [&](size_t at, size_t ia, size_t ib) {
      check_guard_at(at);
      store(out, at, f(read(a, ia), read(b, ib)));
    });
  });
  return out;
}

}  // namespace planck
