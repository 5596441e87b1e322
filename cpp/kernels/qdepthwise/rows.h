#pragma once
#include <span>
#include <vector>

#include "kernels/qdepthwise/qdepthwise.h"
#include "kernels/simd/row.h"

namespace planck {

using QDepthwiseRow = KernelRow<QDepthwiseArgs>;

std::span<const QDepthwiseRow> qdepthwise_rows();
inline const QDepthwiseRow& qdepthwise_row(std::string_view name) {
  return row_of_name(qdepthwise_rows(), name);
}

// Weights in the form that the kernels take.
std::vector<float> widened(std::span<const int8_t> weights);
// For each channel of weights [taps, channels], the zero point times their sum.
std::vector<int32_t> padding_of(std::span<const int8_t> weights, int64_t channels, uint8_t zero);

// Chooses the tiles; called once shapes are set, and which pointers are there. Throws InternalError
// where the args contradict themselves.
void plan_qdepthwise(const QDepthwiseRow& row, QDepthwiseArgs& args);
int64_t scratch_bytes(const QDepthwiseArgs& args);

}  // namespace planck
