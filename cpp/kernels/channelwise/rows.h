#pragma once
#include "kernels/channelwise/channelwise.h"
#include "kernels/simd/row.h"

namespace planck {

using ChannelwiseRow = KernelRow<ChannelwiseArgs>;

std::span<const ChannelwiseRow> channelwise_rows();
inline const ChannelwiseRow& channelwise_row(std::string_view name) {
  return row_of_name(channelwise_rows(), name);
}

// What ends in the program, in place of it where there is a shorter way.
void finish_with(ChannelwiseArgs& args, const EltProgram& program);

// Scratch of each worker, once planned.
int64_t scratch_bytes(const ChannelwiseArgs& args);

// Chooses the tiles and what runs the program; called once shapes are set.
void plan_channelwise(const ChannelwiseRow& row, ChannelwiseArgs& args);

}  // namespace planck
