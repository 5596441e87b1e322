#pragma once
#include <algorithm>

#include "backends/bind.h"

namespace planck {

// Behind the step's other jobs.
template <class Row, class Args>
void add_job(BoundStep& bound, const Row& row, const Args& args) {
  bound.jobs.push_back(row.job(args));
  bound.scratch_bytes = std::max(bound.scratch_bytes, row.scratch_bytes);
}

// One overload for each alternative of StepParams.
BoundStep bind(const BindContext& context, const Step& step, const LinearParams& params);
BoundStep bind(const BindContext& context, const Step& step, const ConvParams& params);
BoundStep bind(const BindContext& context, const Step& step, const QProductParams& params);
BoundStep bind(const BindContext& context, const Step& step, const QDepthwiseParams& params);
BoundStep bind(const BindContext& context, const Step& step, const WinogradParams& params);
BoundStep bind(const BindContext& context, const Step& step, const ChannelwiseParams& params);
BoundStep bind(const BindContext& context, const Step& step, const MatmulParams& params);
BoundStep bind(const BindContext& context, const Step& step, const AttentionParams& params);
BoundStep bind(const BindContext& context, const Step& step, const NormParams& params);
BoundStep bind(const BindContext& context, const Step& step, const SoftmaxParams& params);
BoundStep bind(const BindContext& context, const Step& step, const EltwiseParams& params);
BoundStep bind(const BindContext& context, const Step& step, const LutParams& params);
BoundStep bind(const BindContext& context, const Step& step, const BytePoolParams& params);
BoundStep bind(const BindContext& context, const Step& step, const DynamicQuantizeParams& params);
BoundStep bind(const BindContext& context, const Step& step, const EmbedParams& params);
BoundStep bind(const BindContext& context, const Step& step, const RecurrentParams& params);
BoundStep bind(const BindContext& context, const Step& step, const CopyParams& params);
BoundStep bind(const BindContext& context, const Step& step, const ReduceParams& params);
BoundStep bind(const BindContext& context, const Step& step, const IntegerParams& params);
BoundStep bind(const BindContext& context, const Step& step, const IndexParams& params);
BoundStep bind(const BindContext& context, const Step& step, const LaneParams& params);
BoundStep bind(const BindContext& context, const Step& step, const RangeParams& params);
BoundStep bind(const BindContext& context, const Step& step, const ResampleParams& params);
BoundStep bind(const BindContext& context, const Step& step, const GridSampleParams& params);
BoundStep bind(const BindContext& context, const Step& step, const RoiAlignParams& params);
BoundStep bind(const BindContext& context, const Step& step, const LrnParams& params);
BoundStep bind(const BindContext& context, const Step& step, const ReferenceParams& params);

}  // namespace planck
