#pragma once
#include "backends/bind.h"

namespace planck {

// RunError where the shapes, strides or types of this run are not what the step's kernel takes.
void check_step(const BindContext& context, const Step& step);

// One overload for each alternative of StepParams.
BoundStep bind(const BindContext& context, const Step& step, const LinearParams& params);
BoundStep bind(const BindContext& context, const Step& step, const MatmulParams& params);
BoundStep bind(const BindContext& context, const Step& step, const AttentionParams& params);
BoundStep bind(const BindContext& context, const Step& step, const NormParams& params);
BoundStep bind(const BindContext& context, const Step& step, const SoftmaxParams& params);
BoundStep bind(const BindContext& context, const Step& step, const EltwiseParams& params);
BoundStep bind(const BindContext& context, const Step& step, const EmbedParams& params);
BoundStep bind(const BindContext& context, const Step& step, const CopyParams& params);
BoundStep bind(const BindContext& context, const Step& step, const ReduceParams& params);
BoundStep bind(const BindContext& context, const Step& step, const ReferenceParams& params);

}  // namespace planck
