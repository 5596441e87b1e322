#pragma once
// Typed element-wise loops, plain enough for a compiler to vectorise: included by each ISA file.
#include "kernels/integer/integer.h"
#include "kernels/simd/planes_impl.h"

namespace planck {
namespace {

// One row of a plane.
struct RowView {
  const char* in[3];
  bool steps[3];  // false: one element for the whole row
  char* out;
  int64_t count;
};

// Numbers wrap, so sums and products are those of unsigned ones; order is that of signed ones.
template <IntegerOp op, class T, class U>
inline auto combined(U x, U y) {
  const T a = static_cast<T>(x), b = static_cast<T>(y);
  if constexpr (op == IntegerOp::add) return static_cast<U>(x + y);
  if constexpr (op == IntegerOp::sub) return static_cast<U>(x - y);
  if constexpr (op == IntegerOp::mul) return static_cast<U>(x * y);
  if constexpr (op == IntegerOp::min) return b < a ? y : x;
  if constexpr (op == IntegerOp::max) return a < b ? y : x;
  if constexpr (op == IntegerOp::equal) return x == y;
  if constexpr (op == IntegerOp::less) return a < b;
  if constexpr (op == IntegerOp::less_equal) return a <= b;
}

template <IntegerOp op, class T, class U, class Out>
void pair_row(const RowView& row) {
  const U *x = reinterpret_cast<const U*>(row.in[0]), *y = reinterpret_cast<const U*>(row.in[1]);
  Out* out = reinterpret_cast<Out*>(row.out);
  const auto f = [](U a, U b) { return static_cast<Out>(combined<op, T>(a, b)); };
  if (row.steps[0] && row.steps[1]) {
    for (int64_t i = 0; i < row.count; ++i) out[i] = f(x[i], y[i]);
  } else if (row.steps[0]) {
    const U b = row.count > 0 ? y[0] : 0;
    for (int64_t i = 0; i < row.count; ++i) out[i] = f(x[i], b);
  } else if (row.steps[1]) {
    const U a = row.count > 0 ? x[0] : 0;
    for (int64_t i = 0; i < row.count; ++i) out[i] = f(a, y[i]);
  } else {
    const Out all = row.count > 0 ? f(x[0], y[0]) : Out{};
    for (int64_t i = 0; i < row.count; ++i) out[i] = all;
  }
}

template <class T, bool kYes, bool kNo>
void choose(const uint8_t* condition, const T* yes, const T* no, T* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const T a = yes[kYes ? i : 0], b = no[kNo ? i : 0];
    out[i] = condition[i] != 0 ? a : b;
  }
}

template <class T>
void select_row(const RowView& row) {
  const uint8_t* condition = reinterpret_cast<const uint8_t*>(row.in[0]);
  const T *yes = reinterpret_cast<const T*>(row.in[1]), *no = reinterpret_cast<const T*>(row.in[2]);
  T* out = reinterpret_cast<T*>(row.out);
  if (row.count == 0) return;
  if (!row.steps[0]) {
    const bool first = condition[0] != 0;
    const T* from = first ? yes : no;
    const bool steps = row.steps[first ? 1 : 2];
    for (int64_t i = 0; i < row.count; ++i) out[i] = from[steps ? i : 0];
  } else if (row.steps[1]) {
    row.steps[2] ? choose<T, true, true>(condition, yes, no, out, row.count)
                 : choose<T, true, false>(condition, yes, no, out, row.count);
  } else {
    row.steps[2] ? choose<T, false, true>(condition, yes, no, out, row.count)
                 : choose<T, false, false>(condition, yes, no, out, row.count);
  }
}

using RowFn = void (*)(const RowView& row);

template <class T, class U>
RowFn row_of(IntegerOp op, bool floats) {
  switch (op) {
#define PLANCK_ARITHMETIC(name) \
  case IntegerOp::name:         \
    return pair_row<IntegerOp::name, T, U, U>;
#define PLANCK_COMPARISON(name)                            \
  case IntegerOp::name:                                    \
    return floats ? pair_row<IntegerOp::name, T, U, float> \
                  : pair_row<IntegerOp::name, T, U, uint8_t>;
    PLANCK_ARITHMETIC(add)
    PLANCK_ARITHMETIC(sub)
    PLANCK_ARITHMETIC(mul)
    PLANCK_ARITHMETIC(min)
    PLANCK_ARITHMETIC(max)
    PLANCK_COMPARISON(equal)
    PLANCK_COMPARISON(less)
    PLANCK_COMPARISON(less_equal)
#undef PLANCK_ARITHMETIC
#undef PLANCK_COMPARISON
    case IntegerOp::select:
      break;
  }
  return nullptr;
}

RowFn row_of(const IntegerArgs& a) {
  if (a.op != IntegerOp::select) {
    return a.bytes == 4 ? row_of<int32_t, uint32_t>(a.op, a.floats)
                        : row_of<int64_t, uint64_t>(a.op, a.floats);
  }
  if (a.bytes == 1) return select_row<uint8_t>;
  if (a.bytes == 2) return select_row<uint16_t>;
  return a.bytes == 4 ? select_row<uint32_t> : select_row<uint64_t>;
}

inline bool compares(IntegerOp op) {
  return op == IntegerOp::equal || op == IntegerOp::less || op == IntegerOp::less_equal;
}

void run_tile(const IntegerArgs& a, int64_t tile) {
  const RowFn run = row_of(a);
  const int count = a.op == IntegerOp::select ? 3 : 2;
  const int64_t out_bytes = !compares(a.op) ? a.bytes : a.floats ? 4 : 1;
  const PlaneArea area = area_of(a.planes, tile);
  for (int64_t plane = area.first_plane; plane < area.last_plane; ++plane) {
    for (int64_t r = area.row; r < area.row + area.rows; ++r) {
      RowView row = {};
      row.count = area.columns;
      for (int i = 0; i < count; ++i) {
        const int64_t bytes = a.op == IntegerOp::select && i == 0 ? 1 : a.bytes;
        const int64_t at =
            outer_offset(a.planes, a.outer[i], plane) + r * a.rows[i] + area.column * a.columns[i];
        row.in[i] = static_cast<const char*>(a.operands[i]) + at * bytes;
        row.steps[i] = a.columns[i] != 0;
      }
      const int64_t place = (plane * a.planes.rows + r) * a.planes.columns + area.column;
      row.out = static_cast<char*>(a.out) + place * out_bytes;
      run(row);
    }
  }
}

}  // namespace
}  // namespace planck
