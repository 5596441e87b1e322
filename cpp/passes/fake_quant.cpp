// passes/fake_quant.cpp: y = (clip(round(x / scale) + zero, low, high) - zero) * scale, as
// exporters take a fake quantisation apart, becomes QuantizeLinear and DequantizeLinear. Ends that
// are not those of a byte (narrow and reduced ranges) become a Clip of x before. Rounding may flip
// where the formula multiplied by 1 / scale, which is not exactly a division.
#include <cmath>
#include <optional>

#include "ops/quantize.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat clipped(const Pat& x) {
  const Pat low = constant("low"), high = constant("high");
  return either({op("Clip", {x, low, high}), op("Min", {op("Max", {x, low}), high}),
                 op("Max", {op("Min", {x, high}), low})});
}

// Integers in between change nothing: what is clipped and rounded fits them.
Pat stored(const Pat& x) { return either({x, op("Cast", {op("Cast", {x})})}); }

Pat pattern() {
  const Pat x = var("x");
  const Pat rounded = op("Round", {either({x / constant("step"), x * constant("inverse")})});
  const Pat integers = stored(clipped(either({rounded + constant("zero"), rounded})));
  const Pat centred = either({integers - constant("zero_back"), integers});
  return centred * constant("scale");
}

// The number that all elements of a constant are; nothing if they differ.
std::optional<double> splat_of(const Value& v) {
  const Wide wide = widen(*v.fact.constant);
  for (int64_t i = 1; i < wide.count(); ++i) {
    if (wide.at(i) != wide.at(0)) return std::nullopt;
  }
  return wide.count() > 0 ? std::optional(wide.at(0)) : std::nullopt;
}

std::optional<int64_t> whole_number(const Value& v) {
  const auto number = splat_of(v);
  constexpr double kMost = 1 << 20;
  if (!number || *number != std::nearbyint(*number) || std::abs(*number) > kMost) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*number);
}

// The scales along one axis of x, or the one scale with axis -1; nothing if they lie otherwise.
struct Scales {
  Tensor values;
  int64_t axis = -1;
};
std::optional<Scales> scales_along(const Value& x, const Tensor& t) {
  const int64_t rank = x.type().rank(), skip = rank - t.rank();
  if (skip < 0) return std::nullopt;
  if (t.count() == 1) return Scales{t.reshaped({}), -1};
  Scales out{t.reshaped({t.count()}), -1};
  for (int64_t i = 0; i < t.rank(); ++i) {
    const int64_t extent = t.shape()[static_cast<size_t>(i)];
    if (extent == 1) continue;
    if (out.axis != -1 || x.type().dims[static_cast<size_t>(skip + i)] != Dim(extent)) {
      return std::nullopt;
    }
    out.axis = skip + i;
  }
  return out;
}

// Whether x was divided by the scale, or multiplied by what is nearly its reciprocal.
bool undoes(const Match& m, const Wide& scale) {
  const bool divides = m.has("step");
  const Wide other = widen(*m[divides ? "step" : "inverse"].fact.constant);
  if (other.count() != scale.count()) return false;
  constexpr double kNear = 0x1p-22;  // two roundings
  for (int64_t i = 0; i < scale.count(); ++i) {
    const double s = scale.at(i), o = other.at(i);
    if (!(s > 0) || !std::isfinite(s)) return false;
    if (divides ? o != s : !(std::abs(o * s - 1) <= kNear)) return false;
  }
  return true;
}

// The byte type in which the integers lie, once the zero point is in them.
struct Integers {
  DType dtype;
  int64_t zero, low, high;
  bool natural() const {
    const ops::IntegerEnds ends = ops::integer_ends(dtype);
    return low == ends.low && high == ends.high;
  }
};
std::variant<Integers, Refusal> integers_of(const Match& m) {
  const auto number = [&](const char* name) {
    return m.has(name) ? whole_number(m[name]) : std::optional<int64_t>(0);
  };
  const auto zero = number("zero"), back = number("zero_back");
  const auto low = number("low"), high = number("high");
  if (!zero || !back || !low || !high) return refuse("its ends or zero points are no integers");
  if (*zero != *back) return refuse("it adds ", *zero, " and takes ", *back, " away");
  Integers out{DType::u8, *zero, *low, *high};
  // Without a zero point in the formula, [-114, 141] are the integers of 0..255 less 114.
  if (*zero == 0 && (*low < -128 || *high > 127) && *low < 0) {
    out = {DType::u8, -*low, 0, *high - *low};
  }
  if (out.low < 0) out.dtype = DType::s8;
  const ops::IntegerEnds ends = ops::integer_ends(out.dtype);
  if (out.low > out.high || out.low < ends.low || out.high > ends.high) {
    return refuse("[", *low, ", ", *high, "] does not fit a byte");
  }
  if (out.zero < ends.low || out.zero > ends.high) return refuse("its zero point is ", out.zero);
  return out;
}

// x between the numbers that the ends stand for; `by` has the shape in which it broadcasts.
ValueId limited(Patch& patch, ValueId x, const Tensor& by, const Integers& q) {
  const ValueId low = patch.constant(scaled(by, static_cast<double>(q.low - q.zero)));
  const ValueId high = patch.constant(scaled(by, static_cast<double>(q.high - q.zero)));
  if (by.rank() == 0) return patch.add("Clip", {x, low, high});
  return patch.add("Min", {patch.add("Max", {x, low}), high});
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Value &x = m["x"], &scale = m["scale"];
  if (!is_float(x.type().dtype)) return refuse("");
  const Tensor& given = *scale.fact.constant;
  if (!undoes(m, widen(given))) return refuse("");  // rounds to steps, but not to those of a grid
  const auto along = scales_along(x, given);
  if (!along)
    return refuse("the scales ", scale.type(), " do not lie along one axis of ", x.type());
  const auto integers = integers_of(m);
  if (const auto* why = std::get_if<Refusal>(&integers)) return *why;
  const auto& q = std::get<Integers>(integers);
  Patch patch(g, m.at());
  const Tensor by = given.count() == 1 ? along->values : given;
  const ValueId inside = q.natural() ? x.id : limited(patch, x.id, by, q);
  const ValueId step = patch.constant(along->values);
  const ValueId zero =
      patch.constant(filled(q.dtype, along->values.shape(), static_cast<double>(q.zero)));
  const int64_t axis = along->axis < 0 ? 1 : along->axis;  // as ONNX has it for one scale
  const ValueId bytes = patch.add(ops::QuantizeLinear{.axis = axis}, {inside, step, zero});
  const ops::DequantizeLinear back{
      .axis = axis, .block_size = 0, .output_dtype = info(x.type().dtype).onnx};
  if (!same_dims(dims_of(g, m.root()), x.type().dims))
    return refuse("its constants change its shape");
  patch.replace(m.root(), patch.add(back, {bytes, step, zero}));
  return patch;
}

}  // namespace

Pass pass_fake_quant() { return fusion_pass("fake_quant", pattern(), rewrite); }

}  // namespace planck
