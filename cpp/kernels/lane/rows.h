#pragma once
#include "kernels/lane/lane.h"
#include "kernels/simd/row.h"

namespace planck {

using LaneRow = KernelRow<LaneArgs>;

std::span<const LaneRow> lane_rows();
inline const LaneRow& lane_row(std::string_view name) { return row_of_name(lane_rows(), name); }

// Of each worker: `top` sorts the indices of a lane there.
int64_t scratch_bytes(const LaneArgs& args);

}  // namespace planck
