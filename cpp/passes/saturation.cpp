// passes/saturation.cpp: what limits a value around a quantisation. Limits on bytes (narrow and
// reduced ranges) go before the QuantizeLinear, as limits of floats; limits of floats that the ends
// of the bytes imply go away. Only NaN tells narrow ranges apart: it becomes the byte's own least
// value, where the limit on bytes would have raised it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "ops/quantize.h"
#include "passes/passes.h"
#include "passes/quant_facts.h"
#include "passes/tools.h"

namespace planck {

namespace {

// A grid with one scale, on which f32 arithmetic is exact where this file needs it.
struct Line {
  double scale;
  int64_t zero;
  ops::IntegerEnds ends;

  double real(int64_t q) const { return static_cast<double>(q - zero) * scale; }
  int64_t place(double x) const {  // as QuantizeLinear has it
    const auto ratio = static_cast<double>(static_cast<float>(x / scale));
    return static_cast<int64_t>(std::clamp(std::nearbyint(ratio) + static_cast<double>(zero),
                                           static_cast<double>(ends.low),
                                           static_cast<double>(ends.high)));
  }
};

std::optional<Line> line_of(const Graph& g, const Node* n, std::string_view op) {
  if (n == nullptr || !n->is(op)) return std::nullopt;
  if (dtype_of(g, n->inputs[1]) != DType::f32) return std::nullopt;
  const ValueId real = op == "QuantizeLinear" ? n->inputs[0] : n->outputs[0];
  if (dtype_of(g, real) != DType::f32) return std::nullopt;
  const auto grid = grid_of(g, *n);
  const auto* q = std::get_if<QParams>(&grid);
  if (q == nullptr || q->axis >= 0) return std::nullopt;
  return Line{static_cast<double>(q->scale[0]), q->zero_point[0], ops::integer_ends(q->dtype)};
}

// What a node lets through; the least and the greatest number where it has no limit.
struct Limits {
  ValueId x;
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

std::optional<Limits> limits_of(const Graph& g, const Node& n) {
  if (n.is("Relu")) return Limits{n.inputs[0], 0};
  if (n.is("Clip")) {
    Limits out{n.inputs[0]};
    for (const size_t i : {1, 2}) {
      if (n.input(i) == kAbsent) continue;
      const auto end = scalar_of(g, n.inputs[i]);
      if (!end || std::isnan(*end)) return std::nullopt;
      (i == 1 ? out.low : out.high) = *end;
    }
    return out;
  }
  if ((!n.is("Min") && !n.is("Max")) || n.inputs.size() != 2) return std::nullopt;
  for (const size_t i : {0, 1}) {
    const auto end = scalar_of(g, n.inputs[i]);
    const ValueId x = n.inputs[1 - i];
    if (!end || std::isnan(*end) || !same_dims(dims_of(g, x), dims_of(g, n.outputs[0]))) continue;
    return n.is("Min") ? Limits{.x = x, .high = *end} : Limits{.x = x, .low = *end};
  }
  return std::nullopt;
}

// clip(Q(x)) = Q(clip(x)): Q rises, and gives back the integers that the new ends stand for.
std::optional<Outcome> before_quantise(const Graph& g, const Node& n, const Limits& limits) {
  const Node* q = g.producer(limits.x);
  if (q == nullptr || !q->is("QuantizeLinear")) return std::nullopt;
  const auto line = line_of(g, q, "QuantizeLinear");
  if (!line) return refuse("it limits integers that do not lie on one grid of f32");
  const auto at = [&](double end) {
    return static_cast<int64_t>(
        std::clamp(end, static_cast<double>(line->ends.low), static_cast<double>(line->ends.high)));
  };
  const int64_t low = at(limits.low), high = std::max(at(limits.high), low);
  const auto end_of = [&](int64_t q_end) {
    return static_cast<double>(static_cast<float>(line->real(q_end)));
  };
  if (line->place(end_of(low)) != low || line->place(end_of(high)) != high) {
    return refuse("the ends of the grid are no numbers of f32");
  }
  Patch patch(g, n.id);
  ValueId x = q->inputs[0];
  if (low > line->ends.low || high < line->ends.high) {
    x = patch.add("Clip", {x, patch.constant(filled(DType::f32, {}, line->real(low))),
                           patch.constant(filled(DType::f32, {}, line->real(high)))});
  }
  std::vector<ValueId> inputs = q->inputs;
  inputs[0] = x;
  patch.replace(n.outputs[0], patch.add(q->as<ops::QuantizeLinear>(), std::move(inputs)));
  return patch;
}

// Q(clip(x)) = Q(x) where the ends of the clip land on those of the bytes, or beyond.
std::optional<Outcome> implied_by_quantise(const Graph& g, const Node& q, const Line& line) {
  const Node* n = g.producer(q.inputs[0]);
  if (n == nullptr || g.uses(q.inputs[0]) != 1) return std::nullopt;
  const auto limits = limits_of(g, *n);
  if (!limits || line.place(limits->low) != line.ends.low ||
      line.place(limits->high) != line.ends.high || limits->low > limits->high) {
    return std::nullopt;
  }
  std::vector<ValueId> inputs = q.inputs;
  inputs[0] = limits->x;
  Patch patch(g, q.id);
  patch.replace(q.outputs[0], patch.add(q.as<ops::QuantizeLinear>(), std::move(inputs)));
  return patch;
}

// clip(DQ(q)) = DQ(q) where no byte lies beyond the ends.
std::optional<Outcome> implied_by_dequantise(const Graph& g, const Node& n, const Limits& limits) {
  const auto line = line_of(g, g.producer(limits.x), "DequantizeLinear");
  if (!line || limits.low > line->real(line->ends.low) ||
      limits.high < line->real(line->ends.high)) {
    return std::nullopt;
  }
  Patch patch(g, n.id);
  patch.replace(n.outputs[0], limits.x);
  return patch;
}

std::optional<Outcome> saturation(const Graph& g, const Node& n) {
  if (!has_result(n)) return std::nullopt;
  if (const auto line = line_of(g, &n, "QuantizeLinear")) return implied_by_quantise(g, n, *line);
  const auto limits = limits_of(g, n);
  if (!limits) return std::nullopt;
  if (is_integer(dtype_of(g, n.outputs[0]))) return before_quantise(g, n, *limits);
  return implied_by_dequantise(g, n, *limits);
}

}  // namespace

Pass pass_saturation() { return node_pass("saturation", saturation); }

}  // namespace planck
