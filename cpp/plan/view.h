#pragma once
// Strided windows: how views of a buffer are derived without moving data.
#include <optional>
#include <span>
#include <vector>

#include "plan/plan.h"

namespace planck {

std::vector<Dim> dense_strides(std::span<const Dim> shape);
bool is_dense(const PlanValue& v);
// Axis i of the result is axis perm[i] of the value.
PlanValue permuted_view(PlanValue v, std::span<const int64_t> perm);
// The order of the axes in memory, outermost first, where the value is dense in that order; the
// plain one if it is dense as it stands. Nothing if it has gaps or repeats.
std::optional<std::vector<int64_t>> memory_order(const PlanValue& v);
// Last axis contiguous, all axes before it walk like one (rows x columns with one row stride).
bool has_rows(const PlanValue& v);
// Strides of the same window under another shape; nothing if data would have to move.
std::optional<std::vector<Dim>> reshaped_strides(const PlanValue& v, std::span<const Dim> shape);

}  // namespace planck
