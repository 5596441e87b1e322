// passes/fusions/attention_3d.cpp; y = softmax(q k^T * scale + mask) v on [batch * heads,length,
// size], as exporters write it for rows [length,batch,heads * size]: batch and heads are one axis
// of heads, and of rows with their length in front nothing has to move.
#include <optional>

#include "ops/attention.h"
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

// [length,heads,size] as [1,length,heads * size].
ScaledValue flat(const Graph& g, Patch& patch, ScaledValue rows) {
  rows = unscaled(g, rows);
  const std::vector<Dim> d = dims_of(g, rows.value);
  if (const Node* view = made_by(g, rows.value, "planck.View")) {
    rows = unscaled(g, {view->inputs[0], rows.scale});
  }
  return {patch.add(ops::View{{Dim(1), d[0], d[1] * d[2]}}, {rows.value}), rows.scale};
}

// [heads,length,size] as [1,heads,length,size], or as rows where it was made of those.
ScaledValue heads_or_rows(const Graph& g, Patch& patch, ValueId v) {
  const ScaledValue operand = unscaled(g, {v});
  const Node* moved = made_by(g, operand.value, "Transpose");
  if (is_perm(g, moved, {1, 0, 2})) return flat(g, patch, {moved->inputs[0], operand.scale});
  const std::vector<Dim>& d = dims_of(g, operand.value);
  return {patch.add(ops::View{{Dim(1), d[0], d[1], d[2]}}, {operand.value}), operand.scale};
}

// The same for keys, which the product reads as [heads,size,length].
ScaledValue keys(const Graph& g, Patch& patch, ValueId kt) {
  const ScaledValue operand = unscaled(g, {kt});
  const Node* moved = made_by(g, operand.value, "Transpose");
  if (is_perm(g, moved, {1, 2, 0})) return flat(g, patch, {moved->inputs[0], operand.scale});
  const bool turned = is_perm(g, moved, {0, 2, 1});
  const std::vector<Dim>& d = dims_of(g, operand.value);
  const ValueId k =
      turned ? moved->inputs[0] : patch.add(ops::Transpose{{0, 2, 1}}, {operand.value});
  return {patch.add(ops::View{{Dim(1), d[0], d[2], d[1]}}, {k}), operand.scale};
}

// Scale of the scores by what stands between product and softmax; nothing if it is no number.
std::optional<double> scale_of(const Graph& g, const Match& m) {
  if (m.has("scale")) return scalar_of(g, m["scale"].id);
  if (!m.has("divisor")) return 1;
  const auto divisor = scalar_of(g, m["divisor"].id);
  return divisor ? std::optional(1 / *divisor) : std::nullopt;
}

std::string why_not(const Graph& g, const Match& m) {
  const std::vector<Dim>&scores = m["scores"].type().dims, &q = m["q"].type().dims;
  const std::vector<Dim>&k = m["kt"].type().dims, &v = m["v"].type().dims;
  if (!is_float(m["v"].type().dtype)) return cat("v is ", m["v"].type(), ", not of a float type");
  if (q.size() != 3 || k.size() != 3 || v.size() != 3) {
    return cat("q, k and v are ", m["q"].type(), ", ", m["kt"].type(), " and ", m["v"].type(),
               ", not [batch * heads,length,size]");
  }
  if (!scores[0].known()) return cat("the number of heads, ", scores[0], ", is not known");
  if (q[0] != k[0] || q[0] != v[0]) {
    return cat("q, k and v differ in axis 0: ", q[0], ", ", k[0], ", ", v[0]);
  }
  const int64_t axis = g.producer(m["weights"].id)->as<ops::Softmax>().axis;
  if (checked_axis(axis, 3) != 2) return cat("the softmax goes along axis ", axis);
  for (const char* part : {"masked", "scaled"}) {
    if (m.has(part) && !same_dims(m[part].type().dims, scores)) {
      return cat("what is ", part, " is larger than the scores ", m["scores"].type());
    }
  }
  if (!scale_of(g, m)) return "the scale is not one number";
  if (const Value* read = m.read_outside()) {
    return cat(label(g, read->id), " is also read elsewhere");
  }
  return "";
}

ValueId mask_of(Patch& patch, const Value& mask) {
  std::vector<Dim> dims = mask.type().dims;
  if (dims.size() < 3) return mask.id;
  dims.insert(dims.begin(), Dim(1));
  return patch.add(ops::View{std::move(dims)}, {mask.id});
}

Outcome rewrite(const Graph& g, const Match& m) {
  if (m["scores"].type().rank() != 3) return refuse("");
  if (const std::string reason = why_not(g, m); !reason.empty()) return Refusal{reason};
  const Node* moved = only_reader(g, m.root());
  const bool merges = is_perm(g, moved, {1, 0, 2});
  Patch patch(g, merges ? moved->id : m.at());
  const ScaledValue q = heads_or_rows(g, patch, m["q"].id);
  const ScaledValue k = keys(g, patch, m["kt"].id);
  // Values keep their factors: there is no scale behind the softmax.
  const Node* v_moved = made_by(g, m["v"].id, "Transpose");
  const std::vector<Dim>& v_dims = m["v"].type().dims;
  const ValueId v =
      is_perm(g, v_moved, {1, 0, 2})
          ? patch.add(ops::View{{Dim(1), v_dims[1], v_dims[0] * v_dims[2]}}, {v_moved->inputs[0]})
          : patch.add(ops::View{{Dim(1), v_dims[0], v_dims[1], v_dims[2]}}, {m["v"].id});
  std::vector<ValueId> inputs{q.value, k.value, v};
  if (m.has("mask")) inputs.push_back(mask_of(patch, m["mask"]));
  const ops::Attention op{.heads = *m["scores"].type().dims[0].known(),
                          .scale = *scale_of(g, m) * q.scale * k.scale,
                          .merged = merges ? 1 : 0,
                          .masked_rows_zero = 0};
  const ValueId y = patch.add(op, std::move(inputs));
  const ValueId before = merges ? moved->outputs[0] : m.root();
  patch.replace(before, patch.add(ops::View{dims_of(g, before)}, {y}));
  patch.credit(y);
  return patch;
}

}  // namespace

PLANCK_FUSION(attention_3d)

}  // namespace planck
