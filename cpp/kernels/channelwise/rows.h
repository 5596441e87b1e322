#pragma once
#include "kernels/channelwise/channelwise.h"
#include "kernels/simd/row.h"

namespace planck {

using ChannelwiseRow = KernelRow<ChannelwiseArgs>;

std::span<const ChannelwiseRow> channelwise_rows();
inline const ChannelwiseRow& channelwise_row(std::string_view name) {
  return row_of_name(channelwise_rows(), name);
}

// Chooses the tiles and what runs the program; called once shapes are set.
void plan_channelwise(const ChannelwiseRow& row, ChannelwiseArgs& args);

}  // namespace planck
