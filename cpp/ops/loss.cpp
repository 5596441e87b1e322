#include "ops/loss.h"

#include "ops/support.h"

namespace planck::ops {

void NegativeLogLikelihoodLoss::infer(Inference& call) const {
  need_float(kName, call, 0);
  need_integer(kName, call, 1);
  need_rank(kName, call, 0, 2);
  const TensorType& x = call.at(0).type;
  need_rank(kName, call, 1, x.rank() - 1, x.rank() - 1);
  if (call.has(2)) {
    need_same_type(kName, call, 0, 2);
    need_rank(kName, call, 2, 1, 1);
  }
  if (reduction == "none") return set_type(call, 0, x.dtype, call.at(1).type.dims);
  if (reduction != "sum" && reduction != "mean") {
    throw GraphError(kName, ": reduction '", reduction, "', expected none, sum or mean");
  }
  set_type(call, 0, x.dtype, {});
}

void NegativeLogLikelihoodLoss::reference(Evaluation& call) const {
  const Wide &x = call.at(0), &target = call.at(1);
  Shape rest = x.shape;
  rest.erase(rest.begin() + 1);
  const int64_t classes = x.shape[1];
  if (rest != target.shape || (call.has(2) && call.at(2).count() != classes)) {
    throw RunError(kName, ": targets ", shape_text(target.shape), " for ", shape_text(x.shape));
  }
  const int64_t inner = x.shape[0] == 0 ? 1 : target.count() / x.shape[0];
  Wide out = make_wide(x.dtype, target.shape);
  double weights = 0, total = 0;
  for (int64_t i = 0; i < target.count(); ++i) {
    check_guard_at(static_cast<size_t>(i));
    const int64_t t = integers(call, 1)[static_cast<size_t>(i)];
    if (t == ignore_index) continue;
    if (t < 0 || t >= classes) throw RunError("target ", t, " is outside [0, ", classes, ")");
    const double weight = call.has(2) ? call.at(2).real[static_cast<size_t>(t)] : 1;
    const int64_t at = (i / inner * classes + t) * inner + i % inner;
    const double loss = -x.real[static_cast<size_t>(at)] * weight;
    out.real[static_cast<size_t>(i)] = loss;
    total += loss;
    weights += weight;
  }
  if (reduction != "none") {
    out = make_wide(x.dtype, {});
    out.real[0] = reduction == "mean" ? total / weights : total;
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(NegativeLogLikelihoodLoss, 22)

}  // namespace planck::ops
