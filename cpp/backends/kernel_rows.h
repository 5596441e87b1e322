#pragma once
// What the manifests of all families say about a kernel by name.
#include <optional>
#include <string_view>
#include <vector>

#include "base/device.h"
#include "kernels/matmul/rows.h"
#include "plan/plan.h"

namespace planck {

// The instruction set that the step's kernel needs; none if its family has no kernel of that name.
std::optional<Isa> kernel_isa(const Plan& plan, const Step& step);

// What a row for a convolution has to know of it; extents are not known.
MatmulProblem problem_of(const ConvParams& params);

// Whether a copy step changes the type of its elements (another family of kernels).
bool converts(const Plan& plan, const Step& step);

}  // namespace planck
