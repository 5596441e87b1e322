#pragma once
#include "kernels/qchannelwise/qchannelwise.h"
#include "kernels/simd/row.h"

namespace planck {

using QChannelwiseRow = KernelRow<QChannelwiseArgs>;

std::span<const QChannelwiseRow> qchannelwise_rows();
inline const QChannelwiseRow& qchannelwise_row(std::string_view name) {
  return row_of_name(qchannelwise_rows(), name);
}

// Chooses the tiles; called once shapes are set. Throws InternalError where the args contradict
// themselves.
void plan_qchannelwise(QChannelwiseArgs& args);

}  // namespace planck
