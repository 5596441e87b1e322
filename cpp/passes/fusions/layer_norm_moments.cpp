// passes/fusions/layer_norm_moments.cpp; y = (x - mean x) / sqrt(max(mean x^2 - (mean x)^2, 0) +
// eps) times gain plus bias, the root as a reciprocal, means perhaps as sums and without their
// axis. In fp32 the difference of the moments cancels, the fused op does not.
#include <numeric>

#include "ops/norm.h"
#include "ops/transpose.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat mean(const Pat& x, const std::string& number, const std::string& axes) {
  const Pat over = either({constant("axes" + axes), absent()});
  return either({named("sum" + number, op("ReduceSum", {x, over})) * constant("share" + number),
                 named("sum" + number, op("ReduceMean", {x, over}))});
}

Pat viewed(const Pat& x) { return either({op("planck.View", {x}), x}); }

Pat pattern() {
  const Pat x = var("x");
  const Pat first = named("mean", mean(x, "1", "1"));
  const Pat square = either({x * x, op("Pow", {x, lit(2)})});
  const Pat variance =
      mean(square, "2", "2") - either({first * var("mean"), op("Pow", {first, lit(2)})});
  const Pat positive = either({op("Max", {lit(0), variance}), op("Max", {variance, lit(0)}),
                               op("Relu", {variance}), variance});
  const Pat root = named("root", op("Sqrt", {viewed(positive) + constant("eps")}));
  const Pat centred = named("centred", x - viewed(var("mean")));
  const Pat inverse = op("Reciprocal", {root});
  return either({centred * (inverse * constant("gain")), centred * inverse});
}

// The axis that both sums go over; -1 where they are no means over one axis of known width.
int64_t common_axis(const Graph& g, const Match& m) {
  const std::vector<Dim>& dims = m["x"].type().dims;
  int64_t common = -1;
  for (const char* name : {"sum1", "sum2"}) {
    const Node& sum = *g.producer(m[name].id);
    const auto axes = axes_input(g, sum.input(1), m["x"].type().rank());
    if (!axes || axes->size() != 1 || (common >= 0 && axes->front() != common)) return -1;
    common = axes->front();
    const auto width = dims[static_cast<size_t>(common)].known();
    if (!width) return -1;
    const std::string share = name == std::string("sum1") ? "share1" : "share2";
    if (sum.is("ReduceSum") &&
        (!m.has(share) || !is_scalar(g, m[share].id, 1.0 / static_cast<double>(*width)))) {
      return -1;
    }
  }
  return common;
}

// The constant if it has one number for each place along the axis of known width, else null.
const Tensor* row_along(const Graph& g, ValueId id, int64_t axis, int64_t rank) {
  if (!is_constant(g, id)) return nullptr;
  const Tensor& t = *g.value(id).fact.constant;
  const int64_t at = t.rank() - (rank - axis);  // of the axis in the constant
  return at >= 0 && t.shape()[static_cast<size_t>(at)] == t.count() ? &t : nullptr;
}

std::vector<Dim> reduced(std::vector<Dim> dims, int64_t axis) {
  dims[static_cast<size_t>(axis)] = Dim(1);
  return dims;
}

std::vector<int64_t> swapped_with_last(int64_t axis, int64_t rank) {
  std::vector<int64_t> perm(static_cast<size_t>(rank));
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[static_cast<size_t>(axis)], perm.back());
  return perm;
}

// What may follow: a product or sum with one number for each place along the axis.
struct Tail {
  ValueId y;
  NodeId last;
  ValueId operand = kAbsent;
};

Tail next(const Graph& g, const Tail& from, std::string_view op, int64_t axis, int64_t rank) {
  const Node* n = only_reader(g, from.y);
  if (n == nullptr || !n->is(op)) return from;
  const ValueId operand = other_input(*n, from.y);
  if (operand == kAbsent || !same_dims(dims_of(g, n->outputs[0]), dims_of(g, from.y)) ||
      row_along(g, operand, axis, rank) == nullptr) {
    return from;
  }
  return {n->outputs[0], n->id, operand};
}

Outcome fused(const Graph& g, const Match& m, int64_t axis, double epsilon) {
  const Value& x = m["x"];
  const int64_t rank = x.type().rank();
  const bool inside = m.has("gain");
  const Tail scaled = inside ? Tail{m.root(), m.at(), m["gain"].id}
                             : next(g, {m.root(), m.at()}, "Mul", axis, rank);
  const Tail shifted = next(g, {scaled.y, scaled.last}, "Add", axis, rank);
  Patch patch(g, shifted.last);
  const auto row = [&](ValueId v) {
    const Tensor& t = *row_along(g, v, axis, rank);
    return patch.constant(t.reshaped({t.count()}));
  };
  if (inside && row_along(g, scaled.operand, axis, rank) == nullptr) {
    return refuse("the gain ", m["gain"].type(), " is not one number for each place along axis ",
                  axis);
  }
  const int64_t width = *x.type().dims[static_cast<size_t>(axis)].known();
  const ops::Transpose to_last{swapped_with_last(axis, rank)};
  const bool moves = axis != rank - 1;
  std::vector<ValueId> inputs{moves ? patch.add(to_last, {x.id}) : x.id,
                              scaled.operand == kAbsent
                                  ? patch.constant(filled(x.type().dtype, {width}, 1))
                                  : row(scaled.operand)};
  if (shifted.operand != kAbsent) inputs.push_back(row(shifted.operand));
  ops::LayerNormalization norm;
  norm.epsilon = epsilon;
  ValueId y = patch.add(norm, std::move(inputs));
  patch.credit(y);
  if (moves) y = patch.add(to_last, {y});
  patch.replace(shifted.y, y);
  return patch;
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Value& x = m["x"];
  if (!is_float(x.type().dtype)) return refuse("x is ", x.type(), ", not of a float type");
  const auto epsilon = scalar_of(g, m["eps"].id);
  if (!epsilon) return refuse("epsilon is ", m["eps"].type(), ", not one number");
  const int64_t axis = common_axis(g, m);
  if (axis < 0) return refuse("the moments are no means over one axis of known width");
  const std::vector<Dim> kept = reduced(x.type().dims, axis);
  const ValueId subtracted = other_input(*g.producer(m["centred"].id), x.id);
  if (!same_dims(dims_of(g, subtracted), kept) || !same_dims(m["root"].type().dims, kept)) {
    return refuse("the moments do not stand at their axis");
  }
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  return fused(g, m, axis, *epsilon);
}

}  // namespace

PLANCK_FUSION(layer_norm_moments)

}  // namespace planck
