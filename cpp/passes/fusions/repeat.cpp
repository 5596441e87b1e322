// passes/fusions/repeat.cpp; f(repeat(x)) = repeat(f(x)), where repeat gives each item of a batch
// several times in a row, as a beam search does with what its hypotheses share. An attention whose
// keys, values and mask are repeated takes the queries of all repeats as rows of one item: then
// nothing is repeated at all.
#include <algorithm>
#include <optional>

#include "base/guard.h"
#include "ops/attention.h"
#include "ops/expand.h"
#include "ops/linear.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// [B*times, ..] as a view of [B,1,..] stretched to [B,times,..].
struct Repeat {
  ValueId source = kAbsent;
  Dim batch, times;
};

std::optional<Repeat> repeat_of(const Graph& g, ValueId v) {
  const Node* view = v == kAbsent ? nullptr : made_by(g, v, "planck.View");
  const Node* stretch = view == nullptr ? nullptr : made_by(g, view->inputs[0], "planck.Broadcast");
  if (stretch == nullptr) return std::nullopt;
  const std::vector<Dim>&from = dims_of(g, stretch->inputs[0]), &to = dims_of(g, view->inputs[0]);
  const std::vector<Dim>& whole = dims_of(g, v);
  if (from.size() != to.size() || from.size() < 2 || whole.empty()) return std::nullopt;
  const bool second = from[0] == to[0] && from[1] == Dim(1) && to[1].known() &&
                      std::ranges::equal(from.begin() + 2, from.end(), to.begin() + 2, to.end());
  const auto rest = [](const std::vector<Dim>& d, size_t first) {
    return product(std::span(d).subspan(first));
  };
  if (!second || whole[0] != to[0] * to[1] || rest(whole, 1) != rest(to, 2)) return std::nullopt;
  return Repeat{stretch->inputs[0], to[0], to[1]};
}

std::vector<Dim> with_front(const Dim& front, std::span<const Dim> dims) {
  std::vector<Dim> out(dims.begin(), dims.end());
  out[0] = front;
  return out;
}

// One of each of the repeats of `whole`.
ValueId once(const Graph& g, Patch& patch, const Repeat& r, ValueId whole) {
  std::vector<Dim> dims = with_front(r.batch, dims_of(g, whole));
  if (same_dims(dims_of(g, r.source), dims)) return r.source;
  const Node* view = made_by(g, r.source, "planck.View");
  if (view != nullptr && same_dims(dims_of(g, view->inputs[0]), dims)) return view->inputs[0];
  return patch.add(ops::View{std::move(dims)}, {r.source});
}

// y, each item of it as often as r says, in the shape of `whole`.
ValueId repeated(const Graph& g, Patch& patch, const Repeat& r, ValueId y, ValueId whole) {
  const std::vector<Dim>& dims = dims_of(g, whole);
  std::vector<Dim> apart{r.batch, Dim(1)};
  apart.insert(apart.end(), dims.begin() + 1, dims.end());
  const ValueId source = patch.add(ops::View{apart}, {y});
  apart[1] = r.times;
  const ValueId stretched = patch.add(ops::Broadcast{std::move(apart)}, {source});
  return patch.add(ops::View{dims}, {stretched});
}

constexpr std::string_view kElementwise[] = {"Cast", "Not", "Equal", "Where",
                                             "Add",  "Sub", "Mul",   "Div"};

// The one input that is repeated, if all others are one number each and the result has its shape.
std::optional<size_t> repeated_input(const Graph& g, const Node& n) {
  std::optional<size_t> found;
  for (size_t i = 0; i < n.inputs.size(); ++i) {
    const ValueId v = n.inputs[i];
    if (v == kAbsent) return std::nullopt;
    if (is_constant(g, v)) {
      if (g.value(v).fact.constant->count() != 1) return std::nullopt;
    } else if (found || !repeat_of(g, v)) {
      return std::nullopt;
    } else {
      found = i;
    }
  }
  const bool keeps = found && same_dims(dims_of(g, n.inputs[*found]), dims_of(g, n.outputs[0]));
  return keeps ? found : std::nullopt;
}

std::optional<Outcome> hoisted(const Graph& g, const Node& n, size_t input) {
  const auto r = repeat_of(g, n.inputs[input]);
  const auto rank = static_cast<int64_t>(dims_of(g, n.outputs[0]).size());
  if (!r || rank >= current_limits().rank) return std::nullopt;
  Patch patch(g, n.id);
  std::vector<ValueId> inputs = n.inputs;
  inputs[input] = once(g, patch, *r, n.inputs[input]);
  const ValueId y = patch.add_node(n.op->text(), n.attrs, std::move(inputs), 1)[0];
  patch.replace(n.outputs[0], repeated(g, patch, *r, y, n.outputs[0]));
  patch.credit(y);
  return patch;
}

// One row of `w` for each row of x, whatever batch it is in.
std::optional<Outcome> linear(const Graph& g, const Node& n) {
  if (n.input(3) != kAbsent || dims_of(g, n.inputs[0]).size() < 2) return std::nullopt;
  return hoisted(g, n, 0);
}

std::optional<Outcome> attention(const Graph& g, const Node& n) {
  const auto k = repeat_of(g, n.inputs[1]), v = repeat_of(g, n.inputs[2]);
  const auto mask = repeat_of(g, n.input(3));
  if (!k || !v || (n.input(3) != kAbsent && !mask)) return std::nullopt;
  const std::vector<Dim>&q = dims_of(g, n.inputs[0]), &y = dims_of(g, n.outputs[0]);
  if (q.size() != 3 || dims_of(g, n.inputs[1]).size() != 3 || dims_of(g, n.inputs[2]).size() != 3 ||
      n.as<ops::Attention>().merged == 0) {
    return refuse("its heads lie apart, so that repeats of queries are no rows");
  }
  if (k->times != v->times || q[0] != k->batch * k->times || (mask && mask->times != k->times)) {
    return refuse("keys, values and mask are repeated ", k->times, ", ", v->times, " and ",
                  mask ? mask->times : Dim(1), " times");
  }
  if (mask) {
    const std::vector<Dim>& m = dims_of(g, n.input(3));
    if (m.size() != 4 || m[2] != Dim(1)) return refuse("its mask differs from row to row");
  }
  Patch patch(g, n.id);
  std::vector<ValueId> inputs{
      patch.add(ops::View{{k->batch, k->times * q[1], q[2]}}, {n.inputs[0]}),
      once(g, patch, *k, n.inputs[1]), once(g, patch, *v, n.inputs[2])};
  if (mask) inputs.push_back(once(g, patch, *mask, n.input(3)));
  const ValueId rows = patch.add(n.as<ops::Attention>(), std::move(inputs));
  patch.replace(n.outputs[0], patch.add(ops::View{y}, {rows}));
  patch.credit(rows);
  return patch;
}

std::optional<Outcome> repeat(const Graph& g, const Node& n) {
  if (n.is("planck.Linear")) return linear(g, n);
  if (n.is("planck.Attention")) return attention(g, n);
  if (std::ranges::none_of(kElementwise, [&](std::string_view op) { return n.is(op); })) {
    return std::nullopt;
  }
  const auto input = repeated_input(g, n);
  return input ? hoisted(g, n, *input) : std::nullopt;
}

}  // namespace

Pass fusion_repeat() { return node_pass("repeat", repeat); }

}  // namespace planck
