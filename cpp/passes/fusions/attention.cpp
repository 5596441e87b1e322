// passes/fusions/attention.cpp; y = softmax(q k^T * scale + mask) v, for all heads at once.
// A mask may also be a condition that hides scores, and there may be a second product of scores
// with positions p that no run changes (Transformer-XL without its shift):
//   (q + a) k^T + (q + b) p^T = (q + a) (k + p)^T + (b - a) p^T
// whose last term is one number for each head and position: another mask, known to the build.
#include "ops/attention.h"

#include <limits>
#include <optional>
#include <utility>

#include "ops/slice.h"
#include "ops/softmax.h"
#include "ops/transpose.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  const Pat product = named("scores", op("MatMul", {var("q"), var("kt")}));
  const Pat both = named("both", product + op("MatMul", {var("qp"), var("pt")}));
  const auto scaled = [](const Pat& scores) {
    return std::vector{named("scaled", scores * constant("scale")),
                       named("scaled", scores / constant("divisor"))};
  };
  std::vector<Pat> logits = scaled(both);
  for (const Pat& p : scaled(product)) logits.push_back(p);
  logits.push_back(product);
  const Pat scores = either(std::move(logits));
  const Pat masked = either({named("masked", op("Where", {var("hidden"), constant("low"), scores})),
                             named("masked", op("Where", {var("shown"), scores, constant("low")})),
                             named("masked", scores + var("mask")), scores});
  const Pat weights = named("weights", op("Softmax", {masked}));
  const Pat kept =
      either({named("kept", op("Where", {var("hidden1"), constant("zero"), weights})),
              named("kept", op("Where", {var("shown1"), weights, constant("zero")})), weights});
  return op("MatMul", {kept, var("v")});
}

// From [B,L,H,D] to [B,L,H*D]: the value that was split, or a view that says so.
ValueId merged(const Graph& g, Patch& patch, ValueId split) {
  const std::vector<Dim>& d = dims_of(g, split);
  const std::vector<Dim> flat{d[0], d[1], d[2] * d[3]};
  const Node* view = made_by(g, split, "planck.View");
  if (view != nullptr && same_dims(dims_of(g, view->inputs[0]), flat)) return view->inputs[0];
  return patch.add(ops::View{flat}, {split});
}

ScaledValue merged_unscaled(const Graph& g, Patch& patch, ScaledValue split) {
  split = unscaled(g, split);
  const ValueId rows = merged(g, patch, split.value);
  const bool old = rows < static_cast<ValueId>(g.value_count());  // not the patch's own
  return old ? unscaled(g, {rows, split.scale}) : ScaledValue{rows, split.scale};
}

// [B,H,L,D] as it is, or as [B,L,H*D] where the heads were moved out of the rows.
ScaledValue rows_of(const Graph& g, Patch& patch, ValueId v) {
  ScaledValue operand = unscaled(g, {v});
  const Node* moved = made_by(g, operand.value, "Transpose");
  if (!is_perm(g, moved, {0, 2, 1, 3})) return operand;
  return merged_unscaled(g, patch, {moved->inputs[0], operand.scale});
}

// The same for keys, which the product reads as [B,H,D,L].
ScaledValue rows_of_transposed(const Graph& g, Patch& patch, ValueId kt) {
  ScaledValue operand = unscaled(g, {kt});
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

// Why the conditions around the softmax are no mask, or nothing. Scores that are -inf have weight 0
// already: the second condition only matters for rows without any other score.
std::string why_no_mask(const Graph& g, const Match& m) {
  const bool after = m.has("kept");
  if (!m.has("low")) return after ? "weights are replaced, but no scores are" : "";
  if (!is_scalar(g, m["low"].id, -std::numeric_limits<double>::infinity())) {
    const auto low = scalar_of(g, m["low"].id);
    return low ? cat("hidden scores become ", *low, ", not -inf") : "hidden scores differ";
  }
  if (!after) return "";
  if (!is_scalar(g, m["zero"].id, 0)) return "hidden weights become another number than 0";
  for (const auto& [before, behind] : {std::pair("hidden", "hidden1"), {"shown", "shown1"}}) {
    if (m.has(before) && m.has(behind) && m[before].id == m[behind].id) return "";
  }
  return "scores and weights are hidden by different conditions";
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
  for (const char* name : {"both", "scaled", "masked", "kept"}) {
    if (m.has(name) && !same_dims(m[name].type().dims, scores)) {
      return cat("the scores ", m["scores"].type(), " are enlarged to ", m[name].type());
    }
  }
  if (!scale_of(g, m)) return "the scale is not one number";
  if (std::string why = why_no_mask(g, m); !why.empty()) return why;
  if (const Value* v_read = m.read_outside()) {
    return cat(label(g, v_read->id), " is also read elsewhere");
  }
  return "";
}

// --- two products of scores --------------------------------------------------------------------

// q plus a constant for each head, on its way to [B,H,L,D].
struct Shifted {
  ValueId heads = kAbsent;  // q as [B,L,H,D]
  const Tensor* by = nullptr;
};
Shifted shifted(const Graph& g, ValueId q) {
  const Node* moved = made_by(g, q, "Transpose");
  const Node* add = is_perm(g, moved, {0, 2, 1, 3}) ? made_by(g, moved->inputs[0], "Add") : nullptr;
  if (add == nullptr) return {};
  for (size_t i : {0, 1}) {
    const ValueId heads = add->inputs[1 - i], by = add->inputs[i];
    const std::vector<Dim>& d = dims_of(g, heads);
    if (!is_constant(g, by) || d.size() != 4 || !d[2].known() || !d[3].known()) continue;
    const Tensor& t = *g.value(by).fact.constant;
    const bool fits = dtype_of(g, by) == DType::f32 && dims_of(g, by).size() >= 2 &&
                      t.count() == *d[2].known() * *d[3].known() && dims_of(g, by).back() == d[3];
    if (fits) return {heads, &t};
  }
  return {};
}

// Rows of positions that the build knows, of which a run takes the first ones.
struct Positions {
  ValueId rows = kAbsent;  // [1,L,H*D]
  const ops::Crop* crop = nullptr;
  const Tensor* table = nullptr;
};
Positions positions(const Graph& g, ValueId pt) {
  const Node* moved = made_by(g, pt, "Transpose");
  const Node* view =
      is_perm(g, moved, {0, 2, 3, 1}) ? made_by(g, moved->inputs[0], "planck.View") : nullptr;
  const Node* crop = view == nullptr ? nullptr : made_by(g, view->inputs[0], "planck.Crop");
  if (crop == nullptr || !is_constant(g, crop->inputs[0])) return {};
  const auto& cut = crop->as<ops::Crop>();
  const Tensor& table = *g.value(crop->inputs[0]).fact.constant;
  const std::vector<Dim>& d = dims_of(g, moved->inputs[0]);
  const bool rows = table.dtype() == DType::f32 && table.shape().size() == 3 &&
                    table.shape()[0] == 1 && d.size() == 4 && d[0] == Dim(1) &&
                    d[2] * d[3] == Dim(table.shape()[2]) && cut.axes.size() == 1 &&
                    cut.axes[0] == 1;
  return rows ? Positions{crop->outputs[0], &cut, &table} : Positions{};
}

// Both products, told apart; incomplete where they are not what the formula above needs.
struct TwoProducts {
  Shifted content, place;
  ValueId kt = kAbsent;
  Positions positions;

  bool complete() const {
    return content.heads != kAbsent && content.heads == place.heads && positions.table != nullptr;
  }
};
TwoProducts two_products(const Graph& g, const Match& m) {
  const auto in_order = [&](const char* q, const char* kt, const char* qp, const char* pt) {
    return TwoProducts{shifted(g, m[q].id), shifted(g, m[qp].id), m[kt].id, positions(g, m[pt].id)};
  };
  TwoProducts two = in_order("q", "kt", "qp", "pt");
  return two.complete() ? two : in_order("qp", "pt", "q", "kt");
}

// (b - a) p^T * scale of every row of the table, as [1,H,1,rows].
Tensor place_scores(const TwoProducts& two, int64_t heads, double scale) {
  const Tensor& table = *two.positions.table;
  const int64_t rows = table.shape()[1], width = table.shape()[2], size = width / heads;
  const float *a = two.content.by->as<float>(), *b = two.place.by->as<float>();
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, {1, heads, 1, rows}, &bytes);
  auto* to = reinterpret_cast<float*>(bytes);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t row = 0; row < rows; ++row) {
      const float* p = table.as<float>() + row * width + h * size;
      double sum = 0;
      for (int64_t i = 0; i < size; ++i) {
        const double gap = double{b[h * size + i]} - double{a[h * size + i]};
        sum += gap * double{p[i]};
      }
      *to++ = static_cast<float>(sum * scale);
    }
  }
  return out;
}

// What the attention reads, and the scale of its scores.
struct Operands {
  ValueId q, k;
  ValueId mask = kAbsent;
  double scale = 1;
};

// -inf where scores are hidden, 0 elsewhere; made where the condition is, so that one serves all
// layers.
ValueId hiding_mask(const Graph& g, Patch& patch, const Match& m) {
  const DType dtype = dtype_of(g, m["low"].id);
  const ValueId low = patch.constant(filled(dtype, {}, -std::numeric_limits<double>::infinity()));
  const ValueId zero = patch.constant(filled(dtype, {}, 0));
  if (m.has("hidden")) return patch.add("Where", {m["hidden"].id, low, zero});
  return patch.add("Where", {m["shown"].id, zero, low});
}

Operands one_product(const Graph& g, Patch& patch, const Match& m) {
  const ScaledValue q = rows_of(g, patch, m["q"].id);
  const ScaledValue k = rows_of_transposed(g, patch, m["kt"].id);
  return {q.value, k.value, kAbsent, *scale_of(g, m) * q.scale * k.scale};
}

// rows + a constant row; where they end in such a sum already, it becomes part of it.
ValueId shifted_rows(const Graph& g, Patch& patch, ValueId rows, const Tensor& by) {
  const bool old = rows < static_cast<ValueId>(g.value_count());  // not the patch's own
  const Node* add = old ? g.producer(rows) : nullptr;
  for (size_t i : {0, 1}) {
    if (add == nullptr || !add->is("Add") || !is_constant(g, add->inputs[i])) continue;
    const Tensor& bias = *g.value(add->inputs[i]).fact.constant;
    if (bias.dtype() != DType::f32 || bias.shape() != by.shape()) continue;
    Wide sum = widen(bias);
    for (int64_t c = 0; c < by.count(); ++c) sum.real[static_cast<size_t>(c)] += by.as<float>()[c];
    return patch.add("Add", {add->inputs[1 - i], patch.constant(narrow(sum))});
  }
  return patch.add("Add", {rows, patch.constant(by)});
}

Operands joined_products(const Graph& g, Patch& patch, const Match& m, const TwoProducts& two) {
  const std::vector<Dim>& d = dims_of(g, two.content.heads);
  const double scale = *scale_of(g, m);
  const ScaledValue k = rows_of_transposed(g, patch, two.kt);
  Operands out{merged(g, patch, two.content.heads), k.value, kAbsent, scale};
  const int64_t width = *(d[2] * d[3]).known();
  out.q = shifted_rows(g, patch, out.q, two.content.by->reshaped({width}));
  if (k.scale != 1) {
    const ValueId by = patch.constant(filled(DType::f32, {}, k.scale));
    out.k = patch.add("Mul", {out.k, by});
  }
  out.k = patch.add("Add", {out.k, two.positions.rows});
  const ValueId table = patch.constant(place_scores(two, *d[2].known(), scale));
  const ops::Crop& cut = *two.positions.crop;
  out.mask = patch.add(ops::Crop{{3}, cut.starts, cut.ends, cut.steps}, {table});
  return out;
}

Outcome rewrite(const Graph& g, const Match& m) {
  if (const std::string reason = why_not(g, m); !reason.empty()) return Refusal{reason};
  TwoProducts two;
  if (m.has("both")) {
    two = two_products(g, m);
    if (!two.complete())
      return refuse("the second product is not with positions known to the build");
  }
  const Node* moved = only_reader(g, m.root());
  const bool merges = is_perm(g, moved, {0, 2, 1, 3});
  Patch patch(g, merges ? moved->id : m.at());
  const Operands from =
      m.has("both") ? joined_products(g, patch, m, two) : one_product(g, patch, m);
  const std::vector<Dim>& dims = dims_of(g, m.root());
  // Values keep their factors: there is no scale behind the softmax.
  const Node* v_moved = made_by(g, m["v"].id, "Transpose");
  const bool v_rows = is_perm(g, v_moved, {0, 2, 1, 3});
  const ValueId v = v_rows ? merged(g, patch, v_moved->inputs[0]) : m["v"].id;
  std::vector<ValueId> masks;
  if (m.has("mask")) masks.push_back(m["mask"].id);
  if (m.has("low")) masks.push_back(hiding_mask(g, patch, m));
  if (from.mask != kAbsent) masks.push_back(from.mask);
  std::vector<ValueId> inputs{from.q, from.k, v};
  if (masks.size() == 1) inputs.push_back(masks[0]);
  if (masks.size() == 2) inputs.push_back(patch.add("Add", {masks[0], masks[1]}));
  const ops::Attention op{.heads = *dims[1].known(),
                          .scale = from.scale,
                          .merged = merges ? 1 : 0,
                          .masked_rows_zero = m.has("kept") ? 1 : 0};
  const ValueId y = patch.add(op, std::move(inputs));
  const ValueId before = merges ? moved->outputs[0] : m.root();
  patch.replace(before, merges ? patch.add(ops::View{dims_of(g, before)}, {y}) : y);
  patch.credit(y);
  return patch;
}

}  // namespace

PLANCK_FUSION(attention)

}  // namespace planck
