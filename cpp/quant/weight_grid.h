#pragma once
// Grids of weights: symmetric s8 in [-127, 127], one scale for each index along an axis or one for
// the tensor, found on the values themselves.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/qparams.h"

namespace planck {

inline constexpr int kWeightSteps = 127;

// method "max": the largest |w| lies on the last step. "mse": the scale of least squared error
// among those that saturate at 0.4 to 1 of the largest |w|; ties to the largest. axis -1: one
// scale. A channel of zeros has the scale 1.
// Errors: CalibrationError for a value that is NaN or infinite.
QParams weight_grid(std::span<const float> values, std::span<const int64_t> shape, int64_t axis,
                    const std::string& method);

// rne(w / scale), limited to [-127, 127], in the order of the values. Scales as weight_grid's.
std::vector<int8_t> on_grid(std::span<const float> values, std::span<const int64_t> shape,
                            const QParams& grid);

}  // namespace planck
