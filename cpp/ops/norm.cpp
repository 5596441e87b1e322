#include "ops/norm.h"

#include <algorithm>

#include "ops/elementwise.h"
#include "ops/normalize.h"

namespace planck::ops {

void LayerNormalization::infer(Inference& call) const {
  need_float(kName, call, 0);
  const auto& x = call.at(0).type;
  const int64_t at = checked_axis(axis, x.rank());
  need_affine(kName, call, 1, x.dtype, x.dims);
  if (call.has(2)) need_affine(kName, call, 2, x.dtype, x.dims);
  set_type(call, 0, x.dtype, x.dims);
  std::vector<Dim> outer = x.dims;
  std::fill(outer.begin() + at, outer.end(), Dim(1));
  const DType stash = dtype_attribute(kName, "stash_type", stash_type);
  for (size_t i = 1; i < call.out.size(); ++i) set_type(call, i, stash, outer);
}

void LayerNormalization::reference(Evaluation& call) const {
  Normalized n =
      normalize(call.at(0), axis, epsilon, call.at(1), call.has(2) ? &call.at(2) : nullptr);
  call.out[0] = std::move(n.y);
  const DType stash = dtype_attribute(kName, "stash_type", stash_type);
  n.mean.dtype = n.inverse.dtype = stash;
  if (call.out.size() > 1) call.out[1] = std::move(n.mean);
  if (call.out.size() > 2) call.out[2] = std::move(n.inverse);
}
PLANCK_OP(LayerNormalization, 17)

void AddLayerNorm::infer(Inference& call) const {
  need_float(kName, call, 0);
  need_same_type(kName, call, 0, 1);
  const DType dtype = call.at(0).type.dtype;
  const auto dims = broadcast(call.at(0).type.dims, call.at(1).type.dims);
  checked_axis(axis, static_cast<int64_t>(dims.size()));
  need_affine(kName, call, 2, dtype, dims);
  if (call.has(3)) need_affine(kName, call, 3, dtype, dims);
  for (size_t i = 0; i < call.out.size(); ++i) set_type(call, i, dtype, dims);
}

void AddLayerNorm::reference(Evaluation& call) const {
  Wide sum = zip(call.at(0), call.at(1), call.at(0).dtype, [](auto a, auto b) { return a + b; });
  call.out[0] = normalize(sum, axis, epsilon, call.at(2), call.has(3) ? &call.at(3) : nullptr).y;
  if (call.out.size() > 1) call.out[1] = std::move(sum);
}
PLANCK_OWN_OP(AddLayerNorm)

}  // namespace planck::ops
