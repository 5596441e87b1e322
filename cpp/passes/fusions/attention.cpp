// passes/fusions/attention.cpp; y = softmax(q k^T * scale + mask) v, for all heads at once
#include "ops/attention.h"

#include <optional>

#include "ops/softmax.h"
#include "ops/transpose.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  const Pat scores = named("scores", op("MatMul", {var("q"), var("kt")}));
  const Pat scaled = either({named("scaled", scores * constant("scale")),
                             named("scaled", scores / constant("divisor")), scores});
  const Pat masked = either({named("masked", scaled + var("mask")), scaled});
  return op("MatMul", {named("weights", op("Softmax", {masked})), var("v")});
}

// q, k or v on its way back to where the heads were split.
struct Operand {
  ValueId value;
  double scale = 1;
};

// Behind a multiplication by a number, which then belongs to the scale of the scores.
Operand unscaled(const Graph& g, Operand from) {
  const Node* n = g.producer(from.value);
  if (n == nullptr || (!n->is("Mul") && !n->is("Div"))) return from;
  const auto right = scalar_of(g, n->inputs[1]), left = scalar_of(g, n->inputs[0]);
  Operand inner = from;
  if (right) {
    inner = {n->inputs[0], n->is("Mul") ? from.scale * *right : from.scale / *right};
  } else if (left && n->is("Mul")) {
    inner = {n->inputs[1], from.scale * *left};
  }
  // A constant of shape [1,1,1,1,1] would have raised the rank.
  return same_dims(dims_of(g, inner.value), dims_of(g, from.value)) ? inner : from;
}

// From [B,L,H,D] to [B,L,H*D]: the value that was split, or a view that says so.
ValueId merged(const Graph& g, Patch& patch, ValueId split) {
  const std::vector<Dim>& d = dims_of(g, split);
  const std::vector<Dim> flat{d[0], d[1], d[2] * d[3]};
  const Node* view = made_by(g, split, "planck.View");
  if (view != nullptr && same_dims(dims_of(g, view->inputs[0]), flat)) return view->inputs[0];
  return patch.add(ops::View{flat}, {split});
}

Operand merged_unscaled(const Graph& g, Patch& patch, Operand split) {
  split = unscaled(g, split);
  const ValueId rows = merged(g, patch, split.value);
  const bool old = rows < static_cast<ValueId>(g.value_count());  // not the patch's own
  return old ? unscaled(g, {rows, split.scale}) : Operand{rows, split.scale};
}

// [B,H,L,D] as it is, or as [B,L,H*D] where the heads were moved out of the rows.
Operand rows_of(const Graph& g, Patch& patch, ValueId v) {
  Operand operand = unscaled(g, {v});
  const Node* moved = made_by(g, operand.value, "Transpose");
  if (!is_perm(g, moved, {0, 2, 1, 3})) return operand;
  return merged_unscaled(g, patch, {moved->inputs[0], operand.scale});
}

// The same for keys, which the product reads as [B,H,D,L].
Operand rows_of_transposed(const Graph& g, Patch& patch, ValueId kt) {
  Operand operand = unscaled(g, {kt});
  const Node* moved = made_by(g, operand.value, "Transpose");
  if (is_perm(g, moved, {0, 2, 3, 1})) {
    return merged_unscaled(g, patch, {moved->inputs[0], operand.scale});
  }
  if (is_perm(g, moved, {0, 1, 3, 2})) return unscaled(g, {moved->inputs[0], operand.scale});
  return {patch.add(ops::Transpose{{0, 1, 3, 2}}, {operand.value}), operand.scale};
}

// Scale of the scores by what stands between product and softmax; nothing if it is no number.
std::optional<double> scale_of(const Graph& g, const Match& m) {
  if (m.has("scale")) return scalar_of(g, m["scale"].id);
  if (!m.has("divisor")) return 1;
  const auto divisor = scalar_of(g, m["divisor"].id);
  return divisor ? std::optional(1 / *divisor) : std::nullopt;
}

// Why the product of these four dimensions is no attention, or nothing.
std::string why_not(const Graph& g, const Match& m) {
  const std::vector<Dim>&scores = m["scores"].type().dims, &q = m["q"].type().dims;
  const std::vector<Dim>&k = m["kt"].type().dims, &v = m["v"].type().dims;
  if (!is_float(m["v"].type().dtype)) return cat("v is ", m["v"].type(), ", not of a float type");
  if (q.size() != 4 || k.size() != 4 || v.size() != 4) {
    return cat("the scores are ", m["scores"].type(), ", not [batch,heads,length,length]");
  }
  if (!scores[1].known()) return cat("the number of heads, ", scores[1], ", is not known");
  for (size_t axis : {0, 1}) {
    if (q[axis] == k[axis] && q[axis] == v[axis]) continue;
    return cat("q, k and v differ in axis ", axis, ": ", q[axis], ", ", k[axis], ", ", v[axis]);
  }
  const int64_t axis = g.producer(m["weights"].id)->as<ops::Softmax>().axis;
  if (checked_axis(axis, 4) != 3) return cat("the softmax goes along axis ", axis);
  if (m.has("masked") && !same_dims(m["masked"].type().dims, scores)) {
    return cat("the mask ", m["mask"].type(), " enlarges the scores ", m["scores"].type());
  }
  if (m.has("scaled") && !same_dims(m["scaled"].type().dims, scores)) {
    return "the scale enlarges the scores";
  }
  if (!scale_of(g, m)) return "the scale is not one number";
  if (const Value* v_read = m.read_outside()) {
    return cat(label(g, v_read->id), " is also read elsewhere");
  }
  return "";
}

Outcome rewrite(const Graph& g, const Match& m) {
  if (const std::string reason = why_not(g, m); !reason.empty()) return Refusal{reason};
  const Node* moved = only_reader(g, m.root());
  const bool merges = is_perm(g, moved, {0, 2, 1, 3});
  Patch patch(g, merges ? moved->id : m.at());
  const Operand q = rows_of(g, patch, m["q"].id);
  const Operand k = rows_of_transposed(g, patch, m["kt"].id);
  const std::vector<Dim>& dims = dims_of(g, m.root());
  // Values keep their factors: there is no scale behind the softmax.
  const Node* v_moved = made_by(g, m["v"].id, "Transpose");
  const bool v_rows = is_perm(g, v_moved, {0, 2, 1, 3});
  const ValueId v = v_rows ? merged(g, patch, v_moved->inputs[0]) : m["v"].id;
  std::vector<ValueId> inputs{q.value, k.value, v};
  if (m.has("mask")) inputs.push_back(m["mask"].id);
  const ops::Attention op{.heads = *dims[1].known(),
                          .scale = *scale_of(g, m) * q.scale * k.scale,
                          .merged = merges ? 1 : 0,
                          .masked_rows_zero = 0};
  const ValueId y = patch.add(op, std::move(inputs));
  const ValueId before = merges ? moved->outputs[0] : m.root();
  patch.replace(before, merges ? patch.add(ops::View{dims_of(g, before)}, {y}) : y);
  patch.credit(y);
  return patch;
}

}  // namespace

PLANCK_FUSION(attention)

}  // namespace planck
