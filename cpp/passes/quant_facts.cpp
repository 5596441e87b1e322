#include "passes/quant_facts.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <map>
#include <utility>

#include "base/checked.h"
#include "base/guard.h"
#include "ops/conv.h"
#include "ops/evaluate.h"
#include "ops/quantize.h"
#include "ops/transpose.h"
#include "passes/tools.h"

namespace planck {

namespace {

QuantFact shared(QParams q) { return std::make_shared<const QParams>(std::move(q)); }

bool is_byte(DType dtype) { return dtype == DType::s8 || dtype == DType::u8; }

// Where the scales lie: f32 holds what the types of scales in files hold, f64 perhaps not.
std::optional<std::vector<float>> scales_of(const Tensor& t) {
  std::vector<float> out;
  for (const double s : widen(t).real) {
    out.push_back(static_cast<float>(s));
    if (static_cast<double>(out.back()) != s) return std::nullopt;
  }
  return out;
}

// The axis as the node spells it, where it has one.
struct Layout {
  int64_t axis, block;
};
Layout layout_of(const Node& n) {
  if (n.is("QuantizeLinear")) {
    const auto& q = n.as<ops::QuantizeLinear>();
    return {q.axis, q.block_size};
  }
  const auto& dq = n.as<ops::DequantizeLinear>();
  return {dq.axis, dq.block_size};
}

// Calls f(element, its scale) for all elements; the shape has known extents.
void each_scale(const Shape& shape, const QParams& q, auto&& f) {
  const int64_t count = checked_count(shape);
  if (q.axis < 0) {
    for (int64_t i = 0; i < count; ++i) f(i, size_t{0});
    return;
  }
  const auto at = static_cast<size_t>(q.axis);
  const int64_t inner = checked_count(std::span(shape).subspan(at + 1)), extent = shape[at];
  const int64_t size = std::max<int64_t>(q.block, 1);
  const int64_t blocks = q.block == 0 ? extent : (extent + size - 1) / size;
  for (int64_t i = 0; i < count; ++i) {
    check_guard_at(static_cast<size_t>(i));
    const int64_t place = i / inner % extent / size;
    const int64_t outer = q.block == 0 ? 0 : i / (inner * extent);
    const int64_t rest = q.block == 0 ? 0 : i % inner;
    f(i, static_cast<size_t>(q.block == 0 ? place : (outer * blocks + place) * inner + rest));
  }
}

}  // namespace

std::variant<QParams, Refusal> grid_of(const Graph& g, const Node& n) {
  if (!is_constant(g, n.input(1))) return refuse("its scale is known in the run alone");
  if (n.input(2) != kAbsent && !is_constant(g, n.input(2))) {
    return refuse("its zero point is known in the run alone");
  }
  const auto scale = scales_of(*g.value(n.inputs[1]).fact.constant);
  if (!scale) return refuse("its scale is no number of f32");
  QParams q;
  q.dtype = dtype_of(g, n.is("QuantizeLinear") ? n.outputs[0] : n.inputs[0]);
  q.scale = *scale;
  q.zero_point.resize(q.scale.size());
  if (n.input(2) != kAbsent) {
    const Wide zero = widen(*g.value(n.inputs[2]).fact.constant);
    const bool fits = zero.count() == 1 || zero.count() == static_cast<int64_t>(q.scale.size());
    if (!fits) return refuse(zero.count(), " zero points for ", q.scale.size(), " scales");
    if (zero.floating()) return refuse("its zero point is ", g.value(n.inputs[2]).type());
    for (size_t i = 0; i < q.zero_point.size(); ++i) {
      q.zero_point[i] = static_cast<int32_t>(zero.integer[zero.count() == 1 ? 0 : i]);
    }
  }
  const Layout layout = layout_of(n);
  if (q.scale.size() == 1 && layout.block == 0) return q;
  q.axis = checked_axis(layout.axis, g.value(n.inputs[0]).type().rank());
  q.block = layout.block;
  return q;
}

QuantFact quant_of(const Graph& g, ValueId id) {
  if (id == kAbsent) return nullptr;
  if (is_constant(g, id)) return g.value(id).quant;
  const Node* n = made_by(g, id, "DequantizeLinear");
  if (n == nullptr) return nullptr;
  auto grid = grid_of(g, *n);
  auto* q = std::get_if<QParams>(&grid);
  return q == nullptr ? nullptr : shared(std::move(*q));
}

bool gives_back(DType dtype, const QParams& q) {
  if (dtype == DType::bf16) return false;  // eight bits do not tell 255 steps apart
  constexpr double kMost = 256;            // no byte is farther from its zero point
  // The largest number of each type, and the spacing of the smallest ones.
  const double largest = dtype == DType::f16 ? 65504.0 : static_cast<double>(FLT_MAX);
  const double finest = dtype == DType::f16 ? 0x1p-24 : 0;  // f32 scales are multiples of it
  return is_byte(q.dtype) && std::ranges::all_of(q.scale, [&](float s) {
           const auto scale = static_cast<double>(s);
           return scale * kMost <= largest && scale >= 4 * finest;
         });
}

namespace {

template <class Byte>
Tensor to_floats(const Tensor& q, const QParams& grid) {
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, q.shape(), &bytes);
  auto* to = reinterpret_cast<float*>(bytes);
  const Byte* from = q.as<Byte>();
  each_scale(q.shape(), grid, [&](int64_t i, size_t s) {
    to[i] = static_cast<float>(from[i] - grid.zero_point[s]) * grid.scale[s];
  });
  return out;
}

// Nothing where a number lies beyond the ends of its grid.
std::optional<Wide> places_on(const Tensor& x, const QParams& q) {
  const Wide real = widen(x);
  Wide out(q.dtype, x.shape());
  const int64_t low = q.dtype == DType::s8 ? -128 : 0, high = low + 255;
  bool inside = true;
  each_scale(x.shape(), q, [&](int64_t i, size_t s) {
    const auto at = static_cast<size_t>(i);
    const double place = std::nearbyint(real.real[at] / static_cast<double>(q.scale[s]));
    const double value = place + q.zero_point[s];
    const bool fits = value >= static_cast<double>(low) && value <= static_cast<double>(high);
    inside = inside && fits;
    out.integer[at] = fits ? static_cast<int64_t>(value) : 0;
  });
  return inside ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace

Tensor integers_on(const Tensor& x, const QParams& q) {
  const auto places = places_on(x, q);
  if (!places) throw InternalError("a number of ", x.type(), " lies beyond the ends of its grid");
  return narrow(*places);
}

namespace {

std::string why_not_activation(const Graph& g, const Node& dq) {
  const DType dtype = dtype_of(g, dq.inputs[0]);
  if (!is_byte(dtype)) return cat("its activation is of ", dtype, ", not of bytes");
  if (layout_of(dq).block > 0 || product(dims_of(g, dq.inputs[1])) != Dim(1)) {
    return "its activation has several scales";
  }
  return "";
}

std::string why_not_weights(const Graph& g, const Node& n) {
  const ValueId w = n.input(1);
  if (!is_constant(g, w)) return "its weights are not constant";
  const QuantFact& q = g.value(w).quant;
  if (q == nullptr) return "its weights lie on no grid of bytes";
  const int64_t channels = n.is("planck.Convolution") ? 0 : 1;
  if (q->block > 0) return "its weights have scales in blocks";
  if (q->axis >= 0 && q->axis != channels)
    return cat("its weights have scales along axis ", q->axis);
  return "";  // whether they fit into bytes less their zero points, the lowering says
}

}  // namespace

std::string why_no_integer_product(const Graph& g, const Node& n) {
  const Node* dq = n.input(0) == kAbsent ? nullptr : made_by(g, n.inputs[0], "DequantizeLinear");
  if (dq == nullptr) return "its activation is not quantised";
  const bool varies = !is_constant(g, n.input(1));
  if (n.is("ConvTranspose") && !varies) {
    const Shape& weights = g.value(n.inputs[1]).fact.constant->shape();
    std::string why = ops::why_no_phases(n.as<ops::ConvTranspose>(), weights);
    if (!why.empty()) return why;
  } else if (!n.is("planck.Linear") && !n.is("planck.Convolution") && !varies) {
    return cat("no integer kernel computes ", n.op->text());
  }
  if (std::string why = why_not_activation(g, *dq); !why.empty()) return why;
  return why_not_weights(g, n);
}

std::optional<Tensor> dequantised(const Graph& g, const Node& n) {
  if (!n.is("DequantizeLinear") || !has_result(n) || !is_constant(g, n.inputs[0])) {
    return std::nullopt;
  }
  const Tensor& q = *g.value(n.inputs[0]).fact.constant;
  const auto grid = grid_of(g, n);
  const auto* params = std::get_if<QParams>(&grid);
  if (params == nullptr || !is_byte(q.dtype()) || dtype_of(g, n.outputs[0]) != DType::f32 ||
      count_of_scales(*params, q.shape()) != static_cast<int64_t>(params->scale.size())) {
    return std::nullopt;  // the evaluation says what is wrong
  }
  return q.dtype() == DType::s8 ? to_floats<int8_t>(q, *params) : to_floats<uint8_t>(q, *params);
}

namespace {

constexpr std::string_view kMoves[] = {
    "Concat",      "DepthToSpace",     "Expand",     "Flatten", "Gather", "Identity",  "Reshape",
    "Slice",       "SpaceToDepth",     "Split",      "Squeeze", "Tile",   "Transpose", "Unsqueeze",
    "planck.Crop", "planck.Broadcast", "planck.View"};

// The inputs whose elements the node moves; its other inputs say how.
std::vector<ValueId> moved_inputs(const Node& n) {
  if (n.is("Concat")) return n.inputs;
  return {n.inputs[0]};
}

// All scales of the grids, each once, and for each element of an input the place of its own.
struct Palette {
  QParams all;  // without an axis
  std::vector<Wide> places;
  std::map<std::pair<float, int32_t>, int64_t> known;

  int64_t place_of(float scale, int32_t zero) {
    const auto [at, fresh] = known.emplace(std::pair(scale, zero), known.size());
    if (fresh) {
      all.scale.push_back(scale);
      all.zero_point.push_back(zero);
    }
    return at->second;
  }
};

std::optional<Palette> palette_of(const Graph& g, const std::vector<ValueId>& inputs) {
  Palette out;
  for (const ValueId v : inputs) {
    const QuantFact q = v == kAbsent ? nullptr : g.value(v).quant;
    if (q == nullptr || (!out.places.empty() && q->dtype != out.all.dtype)) return std::nullopt;
    const Shape& shape = g.value(v).fact.constant->shape();
    Wide places(DType::s64, shape);
    std::vector<int64_t> own;
    for (size_t s = 0; s < q->scale.size(); ++s) {
      own.push_back(out.place_of(q->scale[s], q->zero_point[s]));
    }
    each_scale(shape, *q,
               [&](int64_t i, size_t s) { places.integer[static_cast<size_t>(i)] = own[s]; });
    out.all.dtype = q->dtype;
    out.places.push_back(std::move(places));
  }
  return out;
}

// The palette along one axis of the result: nothing where an element differs from its line.
std::optional<QParams> along(const Wide& places, const Palette& palette, size_t axis) {
  const int64_t extent = places.shape[axis];
  const int64_t inner = checked_count(std::span(places.shape).subspan(axis + 1));
  std::vector<int64_t> line(static_cast<size_t>(extent), -1);
  for (int64_t i = 0; i < places.count(); ++i) {
    int64_t& place = line[static_cast<size_t>(i / inner % extent)];
    const int64_t own = places.integer[static_cast<size_t>(i)];
    if (place == -1) place = own;
    if (place != own) return std::nullopt;
  }
  QParams q = palette.all;
  q.axis = static_cast<int64_t>(axis);
  q.scale.clear();
  q.zero_point.clear();
  for (const int64_t place : line) {
    q.scale.push_back(palette.all.scale[static_cast<size_t>(place)]);
    q.zero_point.push_back(palette.all.zero_point[static_cast<size_t>(place)]);
  }
  return q;
}

// The same node, moving the places of the scales instead of the numbers.
Wide moved_places(const Graph& g, const Node& n, const Palette& palette, size_t output) {
  std::vector<Wide> wide(n.inputs.size());
  std::vector<const Wide*> in(n.inputs.size(), nullptr);
  const bool joins = n.is("Concat");
  for (size_t i = 0; i < n.inputs.size(); ++i) {
    if (n.inputs[i] == kAbsent) continue;
    const bool moved = joins || i == 0;
    wide[i] = moved ? palette.places[i] : widen(*g.value(n.inputs[i]).fact.constant);
    in[i] = &wide[i];
  }
  std::vector<Wide> out(n.outputs.size());
  const Bindings none;
  Evaluation call{in, out, &none};
  evaluate(*n.op, n.attrs.get(), call);
  return std::move(out[output]);
}

// As moved() has it, without a second transposition: most weights come by here.
QuantFact turned(const Graph& g, const Node& n) {
  const QuantFact& q = g.value(n.inputs[0]).quant;
  if (q == nullptr || q->axis < 0) return q;
  if (q->block > 0) return nullptr;
  QParams out = *q;
  const std::vector<int64_t> perm = perm_of(g, n);
  out.axis = std::ranges::find(perm, q->axis) - perm.begin();
  return shared(std::move(out));
}

QuantFact moved(const Graph& g, const Node& n, size_t output) {
  const std::vector<ValueId> inputs = moved_inputs(n);
  if (inputs[0] == kAbsent || g.value(inputs[0]).quant == nullptr) return nullptr;
  const QuantFact& first = g.value(inputs[0]).quant;
  if (inputs.size() == 1 && first->axis < 0) return first;
  const auto palette = palette_of(g, inputs);
  if (!palette) return nullptr;
  const Wide places = moved_places(g, n, *palette, output);
  if (places.count() == 0) return nullptr;
  const int64_t one = places.integer[0];
  if (std::ranges::all_of(places.integer, [&](int64_t place) { return place == one; })) {
    const auto at = static_cast<size_t>(one);
    return shared({palette->all.dtype, {palette->all.scale[at]}, {palette->all.zero_point[at]}});
  }
  for (size_t axis = places.shape.size(); axis-- > 0;) {
    if (auto q = along(places, *palette, axis)) return shared(std::move(*q));
  }
  return nullptr;
}

}  // namespace

QuantFact carried(const Graph& g, const Node& n, size_t output) {
  if (n.outputs[output] == kAbsent) return nullptr;
  const DType dtype = dtype_of(g, n.outputs[output]);
  if (n.is("DequantizeLinear")) {
    auto grid = grid_of(g, n);
    auto* q = std::get_if<QParams>(&grid);
    return q != nullptr && gives_back(dtype, *q) ? shared(std::move(*q)) : nullptr;
  }
  if (n.is("Cast")) {
    const QuantFact q = g.value(n.inputs[0]).quant;
    return q != nullptr && is_float(dtype) && gives_back(dtype, *q) ? q : nullptr;
  }
  const std::string op = n.op->text();
  if (std::ranges::find(kMoves, op) == std::end(kMoves)) return nullptr;
  return n.is("Transpose") ? turned(g, n) : moved(g, n, output);
}

QuantFact transposed_grid(const QuantFact& q) {
  if (q == nullptr || q->axis < 0) return q;
  if (q->block > 0) return nullptr;
  QParams out = *q;
  out.axis = 1 - q->axis;
  return shared(std::move(out));
}

namespace {

// The grid with one scale for each place along the axis, if it has no other axis.
std::optional<QParams> spread(const QParams& q, int64_t axis, int64_t extent) {
  if (q.block > 0 || (q.axis >= 0 && q.axis != axis)) return std::nullopt;
  if (q.axis == axis) return q;
  QParams out = q;
  out.axis = axis;
  out.scale.assign(static_cast<size_t>(extent), q.scale[0]);
  out.zero_point.assign(static_cast<size_t>(extent), q.zero_point[0]);
  return out;
}

bool same_integers(const Tensor& before, const QParams& q, const Tensor& after,
                   const QParams& scaled, std::span<const double> factors) {
  const auto a = places_on(before, q), b = places_on(after, scaled);
  bool same = a && b;
  if (!same) return false;  // -128 has no mirror image among signed bytes
  each_scale(before.shape(), scaled, [&](int64_t i, size_t s) {
    const auto at = static_cast<size_t>(i);
    const double factor = factors[factors.size() == 1 ? 0 : s];
    const int64_t expected = factor < 0 ? -a->integer[at] : factor == 0 ? 0 : a->integer[at];
    same = same && b->integer[at] == expected;
  });
  return same;
}

}  // namespace

QuantFact scaled_grid(const Tensor& before, const QuantFact& q, const Tensor& after, int64_t axis,
                      std::span<const double> factors) {
  if (q == nullptr) return nullptr;
  std::optional<QParams> out = *q;
  if (factors.size() > 1) out = spread(*q, axis, before.shape()[static_cast<size_t>(axis)]);
  if (!out) return nullptr;
  for (size_t i = 0; i < out->scale.size(); ++i) {
    const double factor = factors[factors.size() == 1 ? 0 : i];
    // On another zero point the mirrored integers, or zero, would need another one.
    if (factor <= 0 && out->zero_point[i] != 0) return nullptr;
    if (factor == 0) continue;  // all zeros lie on any grid
    out->scale[i] = static_cast<float>(static_cast<double>(out->scale[i]) * std::abs(factor));
    if (!std::isnormal(out->scale[i])) return nullptr;
  }
  if (!gives_back(after.dtype(), *out)) return nullptr;
  return same_integers(before, *q, after, *out, factors) ? shared(std::move(*out)) : nullptr;
}

QuantFact joined_columns(std::span<const Tensor> parts, std::span<const QuantFact> grids) {
  QParams all;
  all.axis = 1;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (grids[i] == nullptr) return nullptr;
    const auto q = spread(*grids[i], 1, parts[i].shape()[1]);
    if (!q || (i > 0 && q->dtype != all.dtype)) return nullptr;
    all.dtype = q->dtype;
    all.scale.insert(all.scale.end(), q->scale.begin(), q->scale.end());
    all.zero_point.insert(all.zero_point.end(), q->zero_point.begin(), q->zero_point.end());
  }
  return shared(std::move(all));
}

}  // namespace planck
