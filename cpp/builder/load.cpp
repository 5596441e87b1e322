#include "builder/load.h"

#include <algorithm>
#include <map>

#include "backends/bind.h"
#include "backends/kernel_rows.h"
#include "backends/packing.h"
#include "backends/verify.h"
#include "base/float_state.h"
#include "base/knobs.h"
#include "builder/gather.h"
#include "builder/select.h"
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
#include "kernels/norm/rows.h"
#include "kernels/qdepthwise/rows.h"
#include "kernels/range/rows.h"
#include "kernels/reduce/rows.h"
#include "kernels/resample/rows.h"
#include "kernels/roi_align/rows.h"
#include "kernels/softmax/rows.h"

namespace planck {
namespace {

// Chooses one step's kernel again, as the lowering did. One overload for each family.
class Reselect {
 public:
  Reselect(Plan& plan, Step& step) : plan_(plan), step_(step) {}

  void operator()(const LinearParams& p) { product(select_linear(p.n, p.k, forced())); }
  void operator()(const ConvParams& p) { product(select_convolution(p, forced())); }
  void operator()(const QProductParams& p) {
    const Tensor matrix = unpacked(weight());
    const std::span codes(matrix.as<int8_t>(), static_cast<size_t>(matrix.count()));
    const PlanValue& y = plan_.values[static_cast<size_t>(step_.outputs[0])];
    take(select_qmatmul(p, codes, y, forced()));
    renew([&](const PlanConstant& weight) {
      return packed_codes(weight.name, codes, p.n, p.k(), step_.kernel);
    });
  }
  void operator()(const QDepthwiseParams&) { take(choose_by_isa(qdepthwise_rows(), forced())); }
  void operator()(const WinogradParams& p) { product(select_matmul(p.n, p.k(), true, forced())); }
  void operator()(const ChannelwiseParams&) { take(choose_by_isa(channelwise_rows(), forced())); }
  void operator()(const MatmulParams&) {
    const auto typical = [&](int32_t v) {
      const std::vector<Dim>& shape = plan_.values[static_cast<size_t>(v)].shape;
      return shape.empty() ? kTypicalRows : shape.back().known().value_or(kTypicalRows);
    };
    take(select_matmul(typical(step_.inputs[1]), typical(step_.inputs[0]), false, forced()));
  }
  void operator()(const AttentionParams& p) { take(select_attention(p.heads, forced())); }
  void operator()(const NormParams&) { take(choose_by_isa(norm_rows(), forced())); }
  void operator()(const SoftmaxParams&) { take(choose_by_isa(softmax_rows(), forced())); }
  void operator()(const EltwiseParams&) { take(choose_by_isa(eltwise_rows(), forced())); }
  void operator()(const LutParams&) { take(choose_by_isa(lut_rows(), forced())); }
  void operator()(const BytePoolParams&) { take(choose_by_isa(byte_pool_rows(), forced())); }
  void operator()(const DynamicQuantizeParams&) {
    take(choose_by_isa(dynamic_quantize_rows(), forced()));
  }
  void operator()(const EmbedParams&) { take(choose_by_isa(embed_rows(), forced())); }
  void operator()(const RecurrentParams& p) { product(select_recurrent(p, forced())); }
  void operator()(const IntegerParams&) { take(choose_by_isa(integer_rows(), forced())); }
  void operator()(const IndexParams&) { take(choose_by_isa(index_rows(), forced())); }
  void operator()(const LaneParams&) { take(choose_by_isa(lane_rows(), forced())); }
  void operator()(const ReduceParams&) { take(choose_by_isa(reduce_rows(), forced())); }
  void operator()(const RangeParams&) { take(choose_by_isa(range_rows(), forced())); }
  void operator()(const ResampleParams&) { take(choose_by_isa(resample_rows(), forced())); }
  void operator()(const GridSampleParams&) { take(choose_by_isa(grid_sample_rows(), forced())); }
  void operator()(const RoiAlignParams&) { take(choose_by_isa(roi_align_rows(), forced())); }
  void operator()(const LrnParams&) { take(choose_by_isa(lrn_rows(), forced())); }
  void operator()(const CopyParams&) {
    if (converts(plan_, step_)) {
      take(choose_by_isa(convert_rows(), forced()));
    } else {
      take(choose_by_isa(copy_rows(), forced()));
    }
  }
  void operator()(const ReferenceParams&) {}

 private:
  void product(const Choice<MatmulRow>& choice) {
    take(choice);
    renew([&](const PlanConstant& weight) {
      return packed(weight.name, unpacked(weight), step_.kernel);
    });
  }
  const PlanConstant& weight() const {
    const PlanValue& value = plan_.values[static_cast<size_t>(step_.inputs[1])];
    const PlanBuffer& buffer = plan_.buffers[static_cast<size_t>(value.buffer)];
    return plan_.constants[static_cast<size_t>(buffer.index)];
  }
  // The weight in the form of the step's kernel, unless it has it.
  void renew(auto&& packed_anew) {
    const auto value = static_cast<size_t>(step_.inputs[1]);
    PlanBuffer& buffer = plan_.buffers[static_cast<size_t>(plan_.values[value].buffer)];
    PlanConstant& weight = plan_.constants[static_cast<size_t>(buffer.index)];
    if (weight.packing.kernel == step_.kernel) return;
    weight = packed_anew(weight);
    buffer.elements = Dim(weight.tensor.count());
    plan_.values[value].shape = {buffer.elements};
    plan_.values[value].strides = {Dim(1)};
  }
  static const std::string& forced() { return knobs().force_kernel; }
  template <class Row>
  void take(Choice<Row> choice) {
    step_.kernel = choice.row->name;
    step_.rejected = std::move(choice.rejected);
  }

  Plan& plan_;
  Step& step_;
};

void fit(Plan& plan, Repack mode) {
  verify_plan(plan);
  for (const Step& step : plan.steps) {
    if (std::holds_alternative<ReferenceParams>(step.params)) check_reference(step);
  }
  const std::string why = why_not_here(plan);
  if (!why.empty() && mode == Repack::never) {
    throw with(TargetError("the plan was built for ", plan.isa, ": ", why),
               {.expected = std::string(isa_name(this_device().best)),
                .got = plan.isa,
                .hint = "load it with repack=\"auto\", or build it on this machine"});
  }
  const bool other = plan.isa != isa_name(this_device().best);
  if (!why.empty() || (mode == Repack::best && other)) repack(plan);
}

}  // namespace

void repack(Plan& plan) {
  for (Step& step : plan.steps) std::visit(Reselect(plan, step), step.params);
  gather_constants(plan);
  plan.isa = isa_name(this_device().best);
}

namespace {

Plan loaded(const LoadOptions& options, const std::string& name, auto&& read) {
  return typed([&] {
    GuardOptions guard_options;
    guard_options.limits = &options.limits;
    guard_options.seconds = options.limits.load_timeout;
    guard_options.option = "load_timeout";
    const Guard guard(std::move(guard_options));
    const GuardScope scope(&guard);
    const FloatState state;  // numbers that are read, or packed anew, have the bits of a build
    Plan plan = read_plan(read(), {options.verify, options.limits.plan_metadata_bytes});
    plan.report.model = name;
    fit(plan, options.repack);
    log(LogLevel::info, "loaded ", name, ": ", plan.steps.size(), " steps for ", plan.isa);
    return plan;
  });
}

}  // namespace

Plan load_plan(const std::string& path, const LoadOptions& options) {
  const std::string& name = options.name.empty() ? path : options.name;
  const auto read = [&] { return read_file(path, options.limits.plan_bytes, "plan_bytes", name); };
  return with_context([&] { return loaded(options, name, read); }, "load of ", name);
}

Plan load_plan(const Bytes& bytes, const LoadOptions& options) {
  return loaded(options, options.name.empty() ? "bytes" : options.name, [&] {
    within("plan_bytes", options.limits.plan_bytes, static_cast<int64_t>(bytes.span.size()),
           "bytes of a plan");
    return bytes;
  });
}

}  // namespace planck
