// passes/widen_half.cpp: what a model computes in float16 or bfloat16 is computed in f32, which is
// never less exact and has the kernels. Half precision stays what the graph's inputs, outputs and
// constants are stored in.
//   y = Add(a, b)          -> y = Cast16(Add(Cast32(a), Cast32(b)))
//   Cast32(Cast16(v))      -> v     where the inner Cast is one of this pass, or what it rounds is
//                                   the operand of an op on halves or of QuantizeLinear
//   Transpose(Cast16(v))   -> Cast16(Transpose(v))   what only moves elements waits for arithmetic
// A Cast to half and straight back that the model itself spells rounds on purpose, and stays.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "ops/cast.h"
#include "ops/quantize.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// What moves elements of its floats and computes nothing.
constexpr std::string_view kMoves[] = {
    "Concat",   "DepthToSpace",     "Expand",      "Flatten",     "Gather",
    "GatherND", "GatherElements",   "Identity",    "Pad",         "Reshape",
    "Slice",    "ScatterElements",  "ScatterND",   "Split",       "SpaceToDepth",
    "Squeeze",  "TensorScatter",    "Tile",        "Transpose",   "Unsqueeze",
    "Dropout",  "planck.Broadcast", "planck.Crop", "planck.View", "ReverseSequence"};
// What reads bits, or makes numbers of a type that it is told.
constexpr std::string_view kApart[] = {"BitCast", "ConstantOfShape", "EyeLike", "planck.Fill"};

bool is_one_of(const Node& n, auto& names) {
  return std::ranges::any_of(names, [&](std::string_view name) { return n.is(name); });
}

bool holds_half(const Graph& g, ValueId v) { return v != kAbsent && is_half(dtype_of(g, v)); }

// The Cast from f32 that makes the half value, or null.
const Node* rounding_of(const Graph& g, ValueId v) {
  const Node* n = holds_half(g, v) ? made_by(g, v, "Cast") : nullptr;
  return n != nullptr && dtype_of(g, n->inputs[0]) == DType::f32 ? n : nullptr;
}

ops::Cast cast_to(DType dtype) { return ops::Cast{info(dtype).onnx}; }

// What DequantizeLinear gives lies on its grid; rounding it to half would only move it off.
bool is_dequantised(const Graph& g, ValueId v) {
  const Node* rounding = rounding_of(g, v);
  return rounding != nullptr && made_by(g, rounding->inputs[0], "DequantizeLinear") != nullptr;
}

class WidenHalf {
 public:
  std::optional<Patch> next(const Graph& g, NodeId from, PassReport& report) {
    for (const Node& n : g.nodes_from(from)) {
      if (!has_result(n)) continue;
      if (n.is("QuantizeLinear")) {
        if (auto patch = quantize(g, n)) return patch;
      }
      if (!is_of_halves(g, n)) continue;
      if (!n.subgraphs.empty()) {
        report.refuse("widen_half", g, n, "its sub-graphs read half precision");
        continue;
      }
      if (auto patch = rewritten(g, n)) return patch;
    }
    return std::nullopt;
  }

 private:
  static bool is_of_halves(const Graph& g, const Node& n) {
    const auto half = [&](ValueId v) { return holds_half(g, v); };
    return std::ranges::any_of(n.inputs, half) || std::ranges::any_of(n.outputs, half);
  }

  std::optional<Patch> rewritten(const Graph& g, const Node& n) {
    if (n.is("Cast")) return cast(g, n);
    if (is_one_of(n, kApart)) return std::nullopt;
    if (n.is("DequantizeLinear")) return dequantize(g, n);
    if (std::ranges::none_of(n.inputs, [&](ValueId v) { return holds_half(g, v); })) {
      return std::nullopt;
    }
    if (is_one_of(n, kMoves) || n.is("Shape") || n.is("Size")) return move(g, n);
    return in_f32(g, n, n.attrs, true);
  }

  // Whether nobody asks for the rounding.
  bool is_own(const Graph& g, ValueId v) const {
    return rounded_.contains(v) || is_dequantised(g, v);
  }

  // The numbers of a half value in f32, before they were rounded where that is known.
  ValueId wide(const Graph& g, Patch& patch, ValueId v) {
    if (!holds_half(g, v)) return v;
    if (const Node* rounding = rounding_of(g, v)) return rounding->inputs[0];
    // One Cast for all who read a constant, so that it is unfolded once.
    if (const auto it = widened_.find(v); it != widened_.end()) {
      if (it->second >= static_cast<ValueId>(g.value_count())) return it->second;  // of this patch
      const Node* known = made_by(g, it->second, "Cast");
      if (known != nullptr && known->inputs[0] == v) return it->second;
    }
    const ValueId made = patch.add(cast_to(DType::f32), {v});
    widened_[v] = made;
    return made;
  }

  // The results of the same op on f32, rounded for whoever reads halves. `computed`: the rounding
  // is of this pass, so that nobody needs it.
  Patch in_f32(const Graph& g, const Node& n, const Attrs& attrs, bool computed) {
    Patch patch(g, n.id);
    std::vector<ValueId> inputs;
    for (const ValueId v : n.inputs) inputs.push_back(wide(g, patch, v));
    const auto made = patch.add_node(n.op->text(), attrs, std::move(inputs), n.outputs.size());
    for (size_t i = 0; i < made.size(); ++i) {
      if (n.outputs[i] == kAbsent) continue;
      const DType before = dtype_of(g, n.outputs[i]);
      if (patch.type(made[i]).dtype == before) {
        patch.replace(n.outputs[i], made[i]);
        continue;
      }
      const ValueId rounded = patch.add(cast_to(before), {made[i]});
      if (computed) rounded_.insert(rounded);
      patch.pass_name(n.outputs[i], made[i]);
      patch.replace(n.outputs[i], rounded);
    }
    patch.credit(made[0]);
    return patch;
  }

  // Elements that are not computed stay halves, so that half as many bytes move. Constants are what
  // others compute with, and lose nothing.
  std::optional<Patch> move(const Graph& g, const Node& n) {
    const auto any = [&](auto&& holds) { return std::ranges::any_of(n.inputs, holds); };
    const bool fixed = any([&](ValueId v) { return holds_half(g, v) && is_constant(g, v); });
    const bool rounded = any([&](ValueId v) { return rounding_of(g, v) != nullptr; });
    if (!fixed && !rounded) return std::nullopt;
    return in_f32(g, n, n.attrs, !rounded || any([&](ValueId v) { return is_own(g, v); }));
  }

  // Q(Cast32(Cast16(v))) -> Q(v): quantisation rounds far more.
  static std::optional<Patch> quantize(const Graph& g, const Node& n) {
    const Node* wide = made_by(g, n.inputs[0], "Cast");
    const Node* rounding = wide == nullptr ? nullptr : rounding_of(g, wide->inputs[0]);
    if (rounding == nullptr || dtype_of(g, n.inputs[0]) != DType::f32) return std::nullopt;
    Patch patch(g, n.id);
    std::vector<ValueId> inputs = n.inputs;
    inputs[0] = rounding->inputs[0];
    patch.replace(n.outputs[0], patch.add(n.as<ops::QuantizeLinear>(), std::move(inputs)));
    return patch;
  }

  std::optional<Patch> dequantize(const Graph& g, const Node& n) {
    auto attrs = std::make_shared<ops::DequantizeLinear>(n.as<ops::DequantizeLinear>());
    const auto asked = dtype_of_onnx(static_cast<int>(attrs->output_dtype));
    if (asked && is_half(*asked)) attrs->output_dtype = info(DType::f32).onnx;
    if (holds_half(g, n.inputs[1])) attrs->output_dtype = 0;
    return in_f32(g, n, attrs, true);
  }

  std::optional<Patch> cast(const Graph& g, const Node& n) {
    const ValueId x = n.inputs[0];
    const DType from = dtype_of(g, x), to = dtype_of(g, n.outputs[0]);
    Patch patch(g, n.id);
    if (to == DType::f32) {
      if (!is_own(g, x)) return std::nullopt;
      patch.replace(n.outputs[0], g.producer(x)->inputs[0]);
      return patch;
    }
    if (is_half(from)) {  // to integers, or to another half
      const ValueId numbers =
          is_own(g, x) ? g.producer(x)->inputs[0] : patch.add(cast_to(DType::f32), {x});
      patch.replace(n.outputs[0], patch.add(n.as<ops::Cast>(), {numbers}));
      return patch;
    }
    if (from == DType::f32 || from == DType::f64) return std::nullopt;
    const ValueId numbers = patch.add(cast_to(DType::f32), {x});
    const ValueId rounded = patch.add(cast_to(to), {numbers});
    rounded_.insert(rounded);
    patch.pass_name(n.outputs[0], numbers);
    patch.replace(n.outputs[0], rounded);
    patch.credit(numbers);
    return patch;
  }

  std::set<ValueId> rounded_;           // halves that Casts of this pass make
  std::map<ValueId, ValueId> widened_;  // half value -> the Cast that widens it
};

}  // namespace

Pass pass_widen_half() {
  const auto widen = std::make_shared<WidenHalf>();
  return {"widen_half", [widen](const Graph& g, NodeId from, PassReport& report) {
            return widen->next(g, from, report);
          }};
}

}  // namespace planck
