#pragma once
// Strided windows: how views of a buffer are derived without moving data.
#include <optional>
#include <span>
#include <vector>

#include "plan/plan.h"

namespace planck {

std::vector<Dim> dense_strides(std::span<const Dim> shape);
bool is_dense(const PlanValue& v);
// Last axis contiguous, all axes before it walk like one (rows x columns with one row stride).
bool has_rows(const PlanValue& v);
// Strides of the same window under another shape; nothing if data would have to move.
std::optional<std::vector<Dim>> reshaped_strides(const PlanValue& v, std::span<const Dim> shape);

}  // namespace planck
