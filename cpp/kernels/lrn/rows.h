#pragma once
#include "kernels/lrn/lrn.h"
#include "kernels/simd/row.h"

namespace planck {

using LrnRow = KernelRow<LrnArgs>;

std::span<const LrnRow> lrn_rows();
inline const LrnRow& lrn_row(std::string_view name) { return row_of_name(lrn_rows(), name); }

// Chooses the tiles; called once shapes are set.
void plan_lrn(LrnArgs& args);
// Of each worker.
int64_t scratch_bytes(const LrnArgs& args);

}  // namespace planck
