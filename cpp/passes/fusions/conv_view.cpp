// passes/fusions/conv_view.cpp; f(View(conv)) -> View(f(conv)) for element-wise f and a View that
// only adds or drops axes of extent 1, so that f can become the end of the convolution: exporters
// write convolutions along one axis as such over two.
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

std::vector<size_t> long_axes(const std::vector<Dim>& dims) {
  std::vector<size_t> axes;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] != Dim(1)) axes.push_back(i);
  }
  return axes;
}

bool moves_short_axes_only(const std::vector<Dim>& in, const std::vector<Dim>& out) {
  const std::vector<size_t> a = long_axes(in), b = long_axes(out);
  return std::ranges::equal(a, b, [&](size_t i, size_t j) { return in[i] == out[j]; });
}

// Whether the value is a convolution, or element-wise work on one.
bool is_convolved(const Graph& g, ValueId v) {
  for (const Node* n = g.producer(v); n != nullptr && only_reader(g, v) != nullptr;) {
    if (n->is("planck.Convolution")) return true;
    v = variable_of_map(g, *n);
    n = v == kAbsent ? nullptr : g.producer(v);
  }
  return false;
}

// What broadcasts over `out` in the shape in which it does over `in`.
Tensor before_view(const Tensor& constant, const std::vector<Dim>& in,
                   const std::vector<Dim>& out) {
  if (constant.count() == 1) return constant.reshaped({});
  Shape all(out.size() - constant.shape().size(), 1), shape(in.size(), 1);
  all.insert(all.end(), constant.shape().begin(), constant.shape().end());
  const std::vector<size_t> from = long_axes(out), to = long_axes(in);
  for (size_t i = 0; i < from.size(); ++i) shape[to[i]] = all[from[i]];
  return constant.reshaped(std::move(shape));
}

std::optional<Outcome> rewrite(const Graph& g, const Node& n) {
  const ValueId seen = variable_of_map(g, n);
  const Node* view = seen == kAbsent ? nullptr : made_by(g, seen, "planck.View");
  if (view == nullptr || !is_convolved(g, view->inputs[0])) return std::nullopt;
  const std::vector<Dim>&in = dims_of(g, view->inputs[0]), &out = dims_of(g, seen);
  if (!moves_short_axes_only(in, out)) return refuse("its View does more than to drop axes of 1");
  if (only_reader(g, seen) == nullptr) return refuse(label(g, seen), " is also read elsewhere");
  Patch patch(g, n.id);
  std::vector<ValueId> inputs;
  for (const ValueId v : n.inputs) {
    inputs.push_back(v == seen ? view->inputs[0] : v);
    if (v == seen || v == kAbsent) continue;
    inputs.back() = patch.constant(before_view(*g.value(v).fact.constant, in, out));
  }
  const ValueId result = patch.add(n.op->text(), std::move(inputs), n.attrs);
  patch.replace(n.outputs[0], patch.add(ops::View{out}, {result}));
  return patch;
}

}  // namespace

Pass fusion_conv_view() { return node_pass("conv_view", rewrite); }

}  // namespace planck
