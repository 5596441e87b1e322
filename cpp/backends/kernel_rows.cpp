#include "backends/kernel_rows.h"

#include <algorithm>

#include "kernels/attention/rows.h"
#include "kernels/byte_pool/rows.h"
#include "kernels/channelwise/rows.h"
#include "kernels/dynamic_quantize/rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/embed/rows.h"
#include "kernels/grid_sample/rows.h"
#include "kernels/index/rows.h"
#include "kernels/integer/rows.h"
#include "kernels/lane/rows.h"
#include "kernels/layout/rows.h"
#include "kernels/lrn/rows.h"
#include "kernels/lut/rows.h"
#include "kernels/matmul/rows.h"
#include "kernels/norm/rows.h"
#include "kernels/qdepthwise/rows.h"
#include "kernels/qmatmul/rows.h"
#include "kernels/range/rows.h"
#include "kernels/reduce/rows.h"
#include "kernels/resample/rows.h"
#include "kernels/roi_align/rows.h"
#include "kernels/softmax/rows.h"

namespace planck {
namespace {

std::optional<Isa> isa_in(const auto& rows, std::string_view name) {
  for (const auto& row : rows) {
    if (row.name == name) return row.isa;
  }
  return std::nullopt;
}

// One overload for each family, so that a new alternative of StepParams does not compile without.
struct Isas {
  std::string_view name;
  bool converts;
  auto operator()(const LinearParams&) const { return isa_in(matmul_rows(), name); }
  auto operator()(const ConvParams&) const { return isa_in(convolution_rows(), name); }
  auto operator()(const QProductParams&) const { return isa_in(qmatmul_rows(), name); }
  auto operator()(const QDepthwiseParams&) const { return isa_in(qdepthwise_rows(), name); }
  auto operator()(const WinogradParams&) const { return isa_in(matmul_rows(), name); }
  auto operator()(const ChannelwiseParams&) const { return isa_in(channelwise_rows(), name); }
  auto operator()(const MatmulParams&) const { return isa_in(matmul_rows(), name); }
  auto operator()(const AttentionParams&) const { return isa_in(attention_rows(), name); }
  auto operator()(const NormParams&) const { return isa_in(norm_rows(), name); }
  auto operator()(const SoftmaxParams&) const { return isa_in(softmax_rows(), name); }
  auto operator()(const EltwiseParams&) const { return isa_in(eltwise_rows(), name); }
  auto operator()(const LutParams&) const { return isa_in(lut_rows(), name); }
  auto operator()(const BytePoolParams&) const { return isa_in(byte_pool_rows(), name); }
  auto operator()(const DynamicQuantizeParams&) const {
    return isa_in(dynamic_quantize_rows(), name);
  }
  auto operator()(const EmbedParams&) const { return isa_in(embed_rows(), name); }
  auto operator()(const RecurrentParams&) const { return isa_in(matmul_rows(), name); }
  auto operator()(const IntegerParams&) const { return isa_in(integer_rows(), name); }
  auto operator()(const IndexParams&) const { return isa_in(index_rows(), name); }
  auto operator()(const LaneParams&) const { return isa_in(lane_rows(), name); }
  auto operator()(const ReduceParams&) const { return isa_in(reduce_rows(), name); }
  auto operator()(const RangeParams&) const { return isa_in(range_rows(), name); }
  auto operator()(const ResampleParams&) const { return isa_in(resample_rows(), name); }
  auto operator()(const GridSampleParams&) const { return isa_in(grid_sample_rows(), name); }
  auto operator()(const RoiAlignParams&) const { return isa_in(roi_align_rows(), name); }
  auto operator()(const LrnParams&) const { return isa_in(lrn_rows(), name); }
  auto operator()(const CopyParams&) const {
    return converts ? isa_in(convert_rows(), name) : isa_in(copy_rows(), name);
  }
  auto operator()(const ReferenceParams&) const {
    return name == "reference" ? std::optional(Isa::portable) : std::nullopt;
  }
};

}  // namespace

MatmulProblem problem_of(const ConvParams& params) {
  MatmulProblem problem;
  problem.n = params.n;
  problem.k = params.k();
  const auto axis = [](const WindowParams& w) {
    return WindowSteps{
        .kernel = w.kernel, .stride = w.stride, .dilation = w.dilation, .begin = w.begin};
  };
  MatmulWindows windows{{}, axis(params.windows.back()), params.channels, 0};
  if (params.windows.size() > 1) windows.y = axis(params.windows.front());
  problem.windows = windows;
  return problem;
}

bool converts(const Plan& plan, const Step& step) {
  if (!std::holds_alternative<CopyParams>(step.params)) return false;
  const auto dtype = [&](int32_t v) { return plan.values[static_cast<size_t>(v)].dtype; };
  return dtype(step.inputs[0]) != dtype(step.outputs[0]);
}

std::optional<Isa> kernel_isa(const Plan& plan, const Step& step) {
  return std::visit(Isas{step.kernel, converts(plan, step)}, step.params);
}

}  // namespace planck
