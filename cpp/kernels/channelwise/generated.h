#pragma once
#include "base/device.h"
#include "kernels/channelwise/channelwise.h"

namespace planck {

// Sets kernels for the tiles of a depthwise convolution, and what runs them. Leaves the args as
// they are where there are none: dilated or very long rows of taps, too many kernels.
void generate_channelwise(Isa isa, ChannelwiseArgs& args);

}  // namespace planck
