// Old meanings of ONNX ops, expressed in the newest: https://github.com/onnx/onnx docs/Changelog.md
#include "importer/adapters.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "importer/take.h"

namespace planck::importer {
namespace {

constexpr int64_t kAlways = INT64_MAX;

void axes_to_input(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  const std::optional<Ints> axes = taken<Ints>(draft, "axes");
  if (axes && !axes->empty()) {
    draft.inputs.push_back(emit.ints(*axes));
  } else if (draft.op == "Unsqueeze") {
    throw GraphError("Unsqueeze needs the attribute axes");
  }
}

// Before opset 13 the axes from `axis` on were one: [a, b, c] with axis 1 is [a, b * c].
void coerced_to_matrix(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  const ValueId x = draft.inputs[0];
  const int64_t rank = emit.fact(x).type.rank();
  const int64_t axis = checked_axis(taken<int64_t>(draft, "axis").value_or(1), rank);
  if (axis == rank - 1) {
    draft.attrs["axis"] = -1;
    return;
  }
  const ValueId matrix = emit.node("Flatten", {x}, {{"axis", axis}});
  Json attrs = draft.attrs;
  attrs["axis"] = 1;
  const ValueId rows = emit.node(draft.op, {matrix}, attrs);
  draft.inputs = {rows, emit.node("Shape", {x})};
  draft.op = "Reshape";
  draft.attrs = {{"allowzero", 1}};  // an empty axis is empty, not "as before"
}

void clip_bounds(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  const DType dtype = emit.fact(draft.inputs[0]).type.dtype;
  const auto low = taken<double>(draft, "min"), high = taken<double>(draft, "max");
  if (low || high) draft.inputs.push_back(low ? emit.number(*low, dtype) : kAbsent);
  if (high) draft.inputs.push_back(emit.number(*high, dtype));
}

// The op's attributes hold the value as a double; what that cannot hold is expanded.
void constant_of_shape(Draft& draft, Emitter& emit) {
  const auto it = draft.tensors.find("value");
  if (it == draft.tensors.end()) return;
  if (it->second.count() != 1) {
    throw GraphError("ConstantOfShape's value has ", it->second.count(), " elements, not one");
  }
  const Wide value = widen(it->second);
  const double number = value.at(0);
  const bool exact = std::isfinite(number) &&
                     (value.floating() || (std::abs(number) < 0x1p53 &&
                                           static_cast<int64_t>(number) == value.integer[0]));
  if (exact) {
    draft.attrs["value"] = number;
    draft.attrs["dtype"] = info(value.dtype).onnx;
  } else {
    need_inputs(draft, 1);
    draft.inputs.insert(draft.inputs.begin(), emit.constant(it->second.reshaped({})));
    draft.op = "Expand";
  }
  draft.tensors.clear();
}

void concat_axis(Draft& draft, Emitter&) {
  if (!draft.attrs.contains("axis")) draft.attrs["axis"] = 1;
}

// Before opset 7 the second operand broadcast only where an attribute said so, from `axis` on.
void marked_broadcast(Draft& draft, Emitter& emit) {
  need_inputs(draft, 2);
  const bool marked = taken_flag(draft, "broadcast");
  const auto axis = taken<int64_t>(draft, "axis");
  if (!marked || !axis) return;
  const int64_t rank = emit.fact(draft.inputs[0]).type.rank();
  const int64_t first = checked_axis(*axis, rank);
  const int64_t end = first + emit.fact(draft.inputs[1]).type.rank();
  Ints axes;
  for (int64_t i = end; i < rank; ++i) axes.push_back(i - first);
  if (!axes.empty()) draft.inputs[1] = emit.node("Unsqueeze", {draft.inputs[1], emit.ints(axes)});
}

void named_type(Draft& draft, Emitter&) {
  const auto name = needed<std::string>(draft, "to");
  constexpr std::string_view kNames[] = {"FLOAT",  "UINT8",  "INT8",   "UINT16", "INT16",
                                         "INT32",  "INT64",  "STRING", "BOOL",   "FLOAT16",
                                         "DOUBLE", "UINT32", "UINT64"};
  const auto* at = std::ranges::find(kNames, name);
  if (at == std::end(kNames)) throw GraphError("Cast to '", name, "', which is no type");
  draft.attrs["to"] = at - std::begin(kNames) + 1;
}

void renamed_pads(Draft& draft, Emitter&) {
  if (const auto pads = taken<Ints>(draft, "paddings")) draft.attrs["pads"] = *pads;
}

void selu_defaults(Draft& draft, Emitter&) {
  if (!draft.attrs.contains("alpha")) draft.attrs["alpha"] = 1.6732;
  if (!draft.attrs.contains("gamma")) draft.attrs["gamma"] = 1.0507;
}

void shape_to_input(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  draft.inputs.push_back(emit.ints(needed<Ints>(draft, "shape")));
}

// One number for each channel, whatever the rank.
void slope_of_channels(Draft& draft, Emitter& emit) {
  need_inputs(draft, 2);
  if (emit.fact(draft.inputs[1]).type.rank() != 1) return;
  Ints axes;
  for (int64_t i = 1; i + 1 < emit.fact(draft.inputs[0]).type.rank(); ++i) axes.push_back(i);
  if (!axes.empty()) draft.inputs[1] = emit.node("Unsqueeze", {draft.inputs[1], emit.ints(axes)});
}

void whole_power(Draft& draft, Emitter&) {
  const auto power = taken<double>(draft, "p");
  if (!power) return;
  if (*power != 1 && *power != 2) throw UnsupportedError(draft.op, " with p ", *power);
  draft.attrs["p"] = static_cast<int64_t>(*power);
}

void without_broadcast(Draft& draft, Emitter&) { taken_flag(draft, "broadcast"); }

void without_test_mode(Draft& draft, Emitter&) { taken_flag(draft, "is_test"); }

void dft_axis(Draft& draft, Emitter& emit) {
  const int64_t axis = taken<int64_t>(draft, "axis").value_or(1);
  draft.inputs.resize(2, kAbsent);  // dft_length is optional
  draft.inputs.push_back(emit.number(static_cast<double>(axis), DType::s64));
}

void dropout_ratio(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  draft.inputs.push_back(emit.number(taken<double>(draft, "ratio").value_or(0.5), DType::f32));
}

void grid_sample_mode(Draft& draft, Emitter&) {
  const auto mode = taken<std::string>(draft, "mode");
  if (!mode) return;
  draft.attrs["mode"] = *mode == "bilinear" ? "linear" : *mode == "bicubic" ? "cubic" : *mode;
}

void pads_to_input(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  const DType dtype = emit.fact(draft.inputs[0]).type.dtype;
  const double value = taken<double>(draft, "value").value_or(0);
  draft.inputs.push_back(emit.ints(needed<Ints>(draft, "pads")));
  draft.inputs.push_back(emit.number(value, dtype));
}

// Upsample of opset 7; the one before had height_scale and width_scale, and no standard behind it.
void scales_to_input(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  std::vector<float> narrow;
  for (const Json& scale : draft.attrs.value("scales", Json::array())) {
    if (!scale.is_number()) throw GraphError("Upsample: scales are no numbers");
    narrow.push_back(scale.get<float>());
  }
  draft.attrs.erase("scales");
  const auto count = static_cast<int64_t>(narrow.size());
  draft.inputs.push_back(emit.constant(Tensor::of<float>(DType::f32, {count}, narrow)));
}

// Upsample, and Resize of opset 10, scaled by floor(x / scale), which today has a name.
void resize_inputs(Draft& draft, Emitter&) {
  need_inputs(draft, 2);
  draft.op = "Resize";
  draft.inputs.insert(draft.inputs.begin() + 1, kAbsent);
  draft.attrs["coordinate_transformation_mode"] = "asymmetric";
  draft.attrs["nearest_mode"] = "floor";
}

// Exporters gave empty tensors where an input is not meant.
void resize_empty_inputs(Draft& draft, Emitter& emit) {
  for (size_t i = 1; i < draft.inputs.size(); ++i) {
    ValueId& v = draft.inputs[i];
    if (v == kAbsent) continue;
    const auto& tensor = emit.fact(v).constant;
    if (tensor != nullptr && tensor->count() == 0) v = kAbsent;
  }
}

void roi_align_corners(Draft& draft, Emitter&) {
  draft.attrs["coordinate_transformation_mode"] = "output_half_pixel";
}

void scatter_elements(Draft& draft, Emitter&) { draft.op = "ScatterElements"; }

void slice_bounds(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  draft.inputs.push_back(emit.ints(needed<Ints>(draft, "starts")));
  draft.inputs.push_back(emit.ints(needed<Ints>(draft, "ends")));
  if (const auto axes = taken<Ints>(draft, "axes")) draft.inputs.push_back(emit.ints(*axes));
}

void split_to_input(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  const auto lengths = taken<Ints>(draft, "split");
  if (lengths && !lengths->empty()) draft.inputs.push_back(emit.ints(*lengths));
}

// To the op 0 means that there is none.
void split_outputs(Draft& draft, Emitter&) {
  const auto it = draft.attrs.find("num_outputs");
  if (it != draft.attrs.end() && *it == 0) throw GraphError("Split: num_outputs is 0");
}

void split_equally(Draft& draft, Emitter&) {
  const bool given = draft.inputs.size() > 1 && draft.inputs[1] != kAbsent;
  if (!given) draft.attrs["num_outputs"] = draft.outputs;
}

void topk_count(Draft& draft, Emitter& emit) {
  need_inputs(draft, 1);
  const auto count = taken<int64_t>(draft, "k");
  if (!count) throw GraphError("TopK needs the attribute k");
  draft.inputs.push_back(emit.ints({*count}));
}

struct Adapter {
  std::string_view op;
  int64_t below;
  void (*apply)(Draft& draft, Emitter& emit);
};

constexpr Adapter kAdapters[] = {
#define PLANCK_ADAPTER(op, below, apply) {#op, below, apply},
#include "importer/adapters.inc"
#undef PLANCK_ADAPTER
};

struct Hint {
  std::string_view domain, op, text;
};

// Ops that will not come, and what does the same.
constexpr Hint kHints[] = {
    {"", "ImageScaler", "experimental and removed from ONNX"},
    {"com.microsoft.nchwc", "",
     "laid out for one machine by ONNX Runtime; save its model at ORT_ENABLE_EXTENDED or below"},
    {"com.microsoft", "", "fused by ONNX Runtime; export without its optimizer"},
    {"ai.onnx.ml", "", "classical machine learning is not supported"},
    {"ai.onnx.preview.training", "", "training is not supported"},
};

}  // namespace

void need_inputs(const Draft& draft, size_t count) {
  if (draft.inputs.size() != count) {
    throw GraphError(draft.op, " of this opset takes ", count, " inputs, got ",
                     draft.inputs.size());
  }
  for (const ValueId v : draft.inputs) {
    if (v == kAbsent) throw GraphError("an input of ", draft.op, " is missing");
  }
}

void adapt(Draft& draft, int64_t opset, Emitter& emit) {
  const std::string op = draft.op;
  if (opset < 6) draft.attrs.erase("consumed_inputs");  // a hint about memory
  for (const Adapter& row : kAdapters) {
    if (row.op == op && opset < row.below) row.apply(draft, emit);
  }
}

std::string hint_for(std::string_view domain, std::string_view op) {
  for (const Hint& row : kHints) {
    if (row.domain == domain && (row.op.empty() || row.op == op)) return std::string(row.text);
  }
  return "";
}

}  // namespace planck::importer
