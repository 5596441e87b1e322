// passes/fusions/conv_mean.cpp; mean(conv(x, w) + bias) = conv(mean(x), w) + bias, where each
// result of the convolution reads one place and the mean goes over places: of a picture with fewer
// channels, and known before the convolution runs, whose end may then read what follows from it.
// Sums of x may overflow where those of the products did not; that takes x beyond 1e38 divided by
// the number of places. What is Inf or NaN at some place is Inf or NaN in both means.
#include <algorithm>

#include "ops/conv.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  return op("ReduceMean",
            {named("conv", op("planck.Convolution",
                              {var("x"), constant("w"), either({absent(), var("bias")})})),
             constant("axes")});
}

bool all_are(const std::vector<int64_t>& list, int64_t number) {
  return std::ranges::all_of(list, [&](int64_t i) { return i == number; });
}

// Why not every result reads one place of all channels, or nothing.
std::string why_not_pointwise(const ops::Convolution& conv, const Tensor& w) {
  const Shape kernel(w.shape().begin() + 2, w.shape().end());
  if (!all_are(kernel, 1) || !all_are(conv.strides, 1) || !all_are(conv.pads, 0)) {
    return "the convolution has windows, a stride or padding";
  }
  if (conv.group != 1) return cat("the convolution has ", conv.group, " groups");
  return conv.activation.empty() ? "" : cat("the convolution ends in ", conv.activation);
}

// Whether the reduction is over places alone.
bool goes_over_places(const Graph& g, const Match& m) {
  const auto axes = axes_input(g, m["axes"].id, m["x"].type().rank());
  return axes && !axes->empty() && axes->front() >= 2;
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Node& conv = *g.producer(m["conv"].id);
  const Value& w = m["w"];
  if (!goes_over_places(g, m)) return refuse("the mean is not over places alone");
  const std::string why = why_not_pointwise(conv.as<ops::Convolution>(), *w.fact.constant);
  if (!why.empty()) return Refusal{why};
  if (w.quant != nullptr) return refuse("the convolution is one of integers");
  const int64_t out = w.type().dims[0].constant(), in = w.type().dims[1].constant();
  if (in >= out && m.read_outside() != nullptr) {
    return refuse("others read the convolution too, and x has ", in, " channels for ", out);
  }
  Patch patch(g, m.at());
  ops::ReduceMean mean;
  std::vector<ValueId> inputs = conv.inputs;
  inputs[0] = patch.add(mean, {inputs[0], m["axes"].id});
  const ValueId result = patch.add(conv.as<ops::Convolution>(), std::move(inputs));
  const bool keeps = m.node().as<ops::ReduceMean>().keepdims != 0;
  patch.replace(m.root(), keeps ? result : patch.add(ops::View{dims_of(g, m.root())}, {result}));
  return patch;
}

}  // namespace

PLANCK_FUSION(conv_mean)

}  // namespace planck
