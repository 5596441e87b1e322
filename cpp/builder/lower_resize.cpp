// Pictures that grow: nearest neighbours by whole factors are copies that repeat.
#include <algorithm>
#include <numeric>
#include <optional>

#include "builder/lowering.h"
#include "builder/select.h"
#include "kernels/layout/rows.h"
#include "kernels/resample/rows.h"
#include "ops/concat.h"
#include "ops/resize.h"
#include "passes/tools.h"

namespace planck {
namespace {

// Whether each place of an axis stands `factor` times in the result, whatever the extent.
bool repeats(const ResampleRule& rule, int64_t factor) {
  if (rule.coordinates == "align_corners" || rule.coordinates == "tf_crop_and_resize") return false;
  constexpr int64_t kProbe = 64;
  const auto places =
      resample_table(rule, {kProbe, kProbe * factor, static_cast<double>(factor), 0, 1}).places;
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i] != static_cast<int64_t>(i) / factor) return false;
  }
  return true;
}

// The scale of each axis as the model gives it; 0 where it is the ratio of the extents.
struct GivenScales {
  std::vector<double> of_axis;
  std::string refusal;
};

GivenScales given_scales(const Lowering& l, const Node& n) {
  const auto& op = n.as<ops::Resize>();
  const int64_t rank = l.graph.value(n.inputs[0]).type().rank();
  GivenScales given{std::vector<double>(static_cast<size_t>(rank), 0), ""};
  if (n.input(2) == kAbsent) {
    if (op.keep_aspect_ratio_policy == "stretch") return given;
    return {{}, "its scale follows from sizes that it does not reach"};
  }
  const Value& scales = l.graph.value(n.input(2));
  if (!scales.is_constant()) return {{}, "its scales are known at run time only"};
  const Wide numbers = widen(*scales.fact.constant);
  for (size_t i = 0; i < numbers.real.size(); ++i) {
    const int64_t axis = op.axes.empty() ? static_cast<int64_t>(i) : checked_axis(op.axes[i], rank);
    given.of_axis[static_cast<size_t>(axis)] = numbers.real[i];
  }
  return given;
}

struct Factors {
  std::vector<int64_t> of_axis;
  std::string refusal;
};

Factors factors_of(const Lowering& l, const Node& n, const std::vector<double>& scales) {
  const auto& op = n.as<ops::Resize>();
  if (op.mode != "nearest") return {{}, cat("the mode ", op.mode, " has no kernel")};
  const std::vector<Dim>& in = l.graph.value(n.inputs[0]).type().dims;
  const std::vector<Dim>& out = l.graph.value(n.outputs[0]).type().dims;
  Factors factors;
  for (size_t i = 0; i < in.size(); ++i) {
    const auto ratio = exact_div(out[i], in[i]);
    const auto factor = ratio ? ratio->known() : std::nullopt;
    if (!factor || *factor < 1) {
      return {{}, cat("the extent ", out[i], " is no multiple of ", in[i])};
    }
    if (scales[i] != 0 && scales[i] != static_cast<double>(*factor)) {
      return {{}, cat("its scale ", scales[i], " is no whole number")};
    }
    if (!repeats(op.rule(), *factor)) {
      return {{}, cat("its neighbours are not every place ", *factor, " times")};
    }
    factors.of_axis.push_back(*factor);
  }
  constexpr size_t kMostAxes = 32;  // of a copy
  const auto repeated =
      static_cast<size_t>(std::ranges::count_if(factors.of_axis, [](int64_t f) { return f > 1; }));
  if (in.size() + repeated > kMostAxes) return {{}, "it has too many axes"};
  return factors;
}

void add_copy(Lowering& l, const Node& n, int32_t from, int32_t to, Origin origin) {
  const auto choice = choose_by_isa(copy_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = CopyParams{},
                 .inputs = {from},
                 .outputs = {to},
                 .kernel = std::string(choice.row->name),
                 .nodes = std::move(origin),
                 .rejected = choice.rejected});
}

}  // namespace

// Of a value whose axes are the slow ones: the fast ones repeat it.
int32_t repeating(Lowering& l, int32_t id, const std::vector<int64_t>& factors) {
  const PlanValue v = l.at(id);
  std::vector<Dim> shape, strides;
  for (size_t i = 0; i < v.shape.size(); ++i) {
    shape.push_back(v.shape[i]);
    strides.push_back(v.strides[i]);
    if (factors[i] == 1) continue;
    shape.emplace_back(factors[i]);
    strides.emplace_back(0);
  }
  return l.restrided(id, std::move(shape), std::move(strides));
}

// Of a value whose axes are both together. Where only the run knows that they are, other extents
// do not agree with those of what repeats, or reach over the end: bindings check both.
int32_t divided(Lowering& l, int32_t id, const std::vector<Dim>& slow,
                const std::vector<int64_t>& factors) {
  const PlanValue v = l.at(id);
  std::vector<Dim> shape, strides;
  for (size_t i = 0; i < v.shape.size(); ++i) {
    const Dim factor(factors[i]);
    const bool one = v.shape[i] == Dim(1);
    const bool exact = v.shape[i] == slow[i] * factor;
    shape.push_back(one     ? Dim(1)
                    : exact ? slow[i]
                            : floordiv(v.shape[i] + factor - Dim(1), factor));
    strides.push_back(v.strides[i] * factor);
    if (factors[i] == 1) continue;
    shape.push_back(one ? Dim(1) : factor);
    strides.push_back(v.strides[i]);
  }
  return l.restrided(id, std::move(shape), std::move(strides));
}

std::vector<int64_t> in_order(const std::vector<int64_t>& list, const std::vector<int64_t>& order) {
  std::vector<int64_t> out;
  for (const int64_t i : order) out.push_back(list[static_cast<size_t>(i)]);
  return out;
}

Origin origin_of_repeated(const Lowering& l, const Node& resize) {
  Origin origin = resize.origin;
  for (const ValueId v : resize.inputs) {
    if (v != kAbsent) merge_origin(origin, l.graph.value(v).origin);
  }
  return origin;
}

void copy_repeated(Lowering& l, const Node& n, int32_t from, int32_t to,
                   const std::vector<int64_t>& factors, const Origin& origin) {
  const std::vector<Dim> slow = l.at(from).shape;
  add_copy(l, n, repeating(l, from, factors), divided(l, to, slow, factors), origin);
}

void write_repeated(Lowering& l, const Node& n, const std::vector<int64_t>& factors) {
  const int32_t x = l.value(n.inputs[0]);
  std::vector<int64_t> order(factors.size());
  std::iota(order.begin(), order.end(), 0);
  if (const auto memory = memory_order(l.at(x))) order = *memory;
  const int32_t from = l.permuted(x, order), to = l.make_permuted_output(n, 0, order);
  copy_repeated(l, n, from, to, in_order(factors, order), {});
}

namespace {

// Whether the one reader takes the input of the Resize instead of its result.
bool is_read_in_place(const Lowering& l, const Node& n, const std::vector<int64_t>& factors) {
  const ValueId out = n.outputs[0];
  const Node* reader = only_reader(l.graph, out);
  if (reader == nullptr || l.graph.uses(out) != 1) return false;
  const auto rank = static_cast<int64_t>(factors.size());
  if (l.graph.value(reader->outputs[0]).type().rank() != rank) return false;
  if (!reader->is("Concat")) return is_eltwise(l.graph, *reader);
  const int64_t axis = checked_axis(reader->as<ops::Concat>().axis, rank);
  return factors[static_cast<size_t>(axis)] == 1;
}

// The axes of a picture that the kernels resize; or why no kernel takes it.
struct Axes {
  std::vector<ResampleParams::Axis> axes;
  std::string refusal;
};

Axes axes_of(const Lowering& l, const Node& n, const std::vector<double>& scales) {
  const TensorType& x = l.graph.value(n.inputs[0]).type();
  const std::vector<Dim>& out = l.graph.value(n.outputs[0]).type().dims;
  if (x.dtype != DType::f32) return {{}, "only fp32 pictures have kernels"};
  if (n.as<ops::Resize>().coordinate_transformation_mode == "tf_crop_and_resize") {
    return {{}, "it reads a region of interest"};
  }
  if (x.rank() != 3 && x.rank() != 4) {
    return {{}, "only pictures of one or two axes have kernels"};
  }
  for (const size_t axis : {0, 1}) {
    if (x.dims[axis] != out[axis] || (scales[axis] != 0 && scales[axis] != 1)) {
      return {{}, "it resizes the batch or the channels"};
    }
  }
  Axes result;
  for (size_t i = 2; i < scales.size(); ++i) result.axes.push_back({scales[i]});
  return result;
}

}  // namespace

std::string lower_resize(Lowering& l, const Node& n) {
  const GivenScales given = given_scales(l, n);
  if (!given.refusal.empty()) return given.refusal;
  const Factors factors = factors_of(l, n, given.of_axis);
  if (factors.refusal.empty()) {
    l.value(n.inputs[0]);
    if (is_read_in_place(l, n, factors.of_axis)) {
      l.repeated[n.outputs[0]] = factors.of_axis;
    } else {
      write_repeated(l, n, factors.of_axis);
    }
    return "";
  }
  Axes resized = axes_of(l, n, given.of_axis);
  if (!resized.refusal.empty()) return resized.refusal;
  const std::vector<int64_t> order = channels_last(resized.axes.size() + 2);
  const int32_t x = l.permuted(l.value(n.inputs[0]), order);
  const bool readable = l.at(x).strides.back() == Dim(1) || l.at(x).shape.back() == Dim(1);
  const auto choice = choose_by_isa(resample_rows(), l.forced());
  l.add_step(n, {.op = "",
                 .params = ResampleParams{n.as<ops::Resize>().rule(), std::move(resized.axes)},
                 .inputs = {readable ? x : l.dense(x)},
                 .outputs = {l.make_permuted_output(n, 0, order)},
                 .kernel = std::string(choice.row->name),
                 .nodes = {},
                 .rejected = choice.rejected});
  return "";
}

}  // namespace planck
