#pragma once
// Strided windows: how views of a buffer are derived without moving data.
#include <optional>
#include <span>
#include <vector>

#include "plan/plan.h"

namespace planck {

std::vector<Dim> dense_strides(std::span<const Dim> shape);

// Of a value of a plan, whose extents are Dims, or of a bound one, whose extents are numbers. Axes
// of extent 1 are never stepped.
template <class Value>
bool is_dense(const Value& v) {
  using Extent = typename decltype(Value::shape)::value_type;
  Extent want(1);
  for (size_t i = v.shape.size(); i-- > 0;) {
    if (v.shape[i] == Extent(1)) continue;
    if (v.strides[i] != want) return false;
    want = want * v.shape[i];
  }
  return true;
}

// Axis i of the result is axis perm[i] of the value.
PlanValue permuted_view(PlanValue v, std::span<const int64_t> perm);
// The order of the axes in memory, outermost first, where the value is dense in that order; the
// plain one if it is dense as it stands. Nothing if it has gaps or repeats.
std::optional<std::vector<int64_t>> memory_order(const PlanValue& v);

// Last axis contiguous, all axes before it walk like one (rows x columns with one row stride).
template <class Value>
bool has_rows(const Value& v) {
  using Extent = typename decltype(Value::shape)::value_type;
  if (v.shape.empty()) return true;
  const size_t last = v.shape.size() - 1;
  if (v.strides[last] != Extent(1) && v.shape[last] != Extent(1)) return false;
  size_t inner = last;  // the innermost leading axis that is stepped
  for (size_t i = last; i-- > 0;) {
    if (v.shape[i] == Extent(1)) continue;
    if (inner != last && v.strides[i] != v.strides[inner] * v.shape[inner]) return false;
    inner = i;
  }
  return true;
}

// Strides of the same window under another shape; nothing if data would have to move.
std::optional<std::vector<Dim>> reshaped_strides(const PlanValue& v, std::span<const Dim> shape);

}  // namespace planck
