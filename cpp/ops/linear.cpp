#include "ops/linear.h"

#include "base/checked.h"
#include "ops/activation.h"
#include "ops/elementwise.h"
#include "ops/normalize.h"
#include "ops/product.h"

namespace planck::ops {

void Linear::infer(Inference& call) const {
  activation_named(activation);
  need_float(kName, call, 0);
  need_same_type(kName, call, 0, 1);
  need_rank(kName, call, 0, 1);
  need_rank(kName, call, 1, 2, 2);
  const auto &x = call.at(0).type, &w = call.at(1).type;
  if (x.dims.back().is_constant() && w.dims[0].is_constant() && x.dims.back() != w.dims[0]) {
    throw GraphError("Linear: ", x, " and ", w, " differ in the summed extent");
  }
  std::vector<Dim> dims = x.dims;
  dims.back() = w.dims[1];
  for (size_t i = 2; i < 4; ++i) {
    if (call.has(i)) need_affine(kName, call, i, x.dtype, dims);
  }
  set_type(call, 0, x.dtype, std::move(dims));
}

void Linear::reference(Evaluation& call) const {
  const Wide &x = call.at(0), &w = call.at(1);
  if (x.rank() < 1 || w.rank() != 2 || x.shape.back() != w.shape[0]) {
    throw RunError("Linear: ", shape_text(x.shape), " and ", shape_text(w.shape),
                   " do not multiply");
  }
  Shape shape = x.shape;
  shape.back() = w.shape[1];
  Wide y = make_wide(x.dtype, shape);
  const int64_t rows = y.count() == 0 ? 0 : y.count() / w.shape[1];
  product(x.real.data(), w.real.data(), y.real.data(), {rows, w.shape[1], w.shape[0]});
  const auto add = [](auto a, auto b) { return a + b; };
  if (call.has(2)) y = zip(y, call.at(2), y.dtype, add);
  const Activation f = activation_named(activation);
  for (double& v : y.real) v = f(v);
  if (call.has(3)) y = zip(y, call.at(3), y.dtype, add);
  if (y.shape != shape) throw RunError("Linear: bias or residual widens the product");
  call.out[0] = std::move(y);
}
PLANCK_OWN_OP(Linear)

}  // namespace planck::ops
