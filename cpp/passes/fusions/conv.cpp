// passes/fusions/conv.cpp; y = conv(x, w) + bias with constant weights, ready for an epilogue
#include "ops/conv.h"

#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() { return op("Conv", {var("x"), constant("w"), either({absent(), var("bias")})}); }

Outcome rewrite(const Graph& g, const Match& m) {
  const DType dtype = m["w"].type().dtype;
  if (!is_float(dtype)) return refuse("w is ", m["w"].type(), ", not of a float type");
  const auto& conv = m.node().as<ops::Conv>();
  ops::Convolution out;
  static_cast<Windowed&>(out) = conv;
  out.group = conv.group;
  Patch patch(g, m.at());
  patch.replace(m.root(), patch.add(out, m.node().inputs));
  return patch;
}

}  // namespace

PLANCK_FUSION(conv)

}  // namespace planck
