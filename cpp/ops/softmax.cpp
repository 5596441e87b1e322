#include "ops/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/support.h"

namespace planck::ops {

namespace {

void infer_along(std::string_view op, int64_t axis, Inference& call) {
  need_float(op, call, 0);
  const auto& x = call.at(0).type;
  checked_axis(axis, x.rank());
  set_type(call, 0, x.dtype, x.dims);
}

// Calls finish(lane, max, sum of exponentials) for every lane of x.
void for_each_lane(const Wide& x, int64_t axis, auto&& finish) {
  const auto value = [&](int64_t at) { return x.real[static_cast<size_t>(at)]; };
  for (const Lane& lane : lanes(x.shape, checked_axis(axis, x.rank()))) {
    check_guard();
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t i = 0; i < lane.count; ++i) top = std::max(top, value(lane.at(i)));
    for (int64_t i = 0; i < lane.count; ++i) sum += std::exp(value(lane.at(i)) - top);
    finish(lane, top, sum);
  }
}

}  // namespace

void Softmax::infer(Inference& call) const { infer_along(kName, axis, call); }
void Softmax::reference(Evaluation& call) const {
  Wide out = call.at(0);
  for_each_lane(call.at(0), axis, [&](const Lane& lane, double top, double sum) {
    for (int64_t i = 0; i < lane.count; ++i) {
      double& y = out.real[static_cast<size_t>(lane.at(i))];
      y = std::exp(y - top) / sum;
    }
  });
  call.out[0] = std::move(out);
}
PLANCK_OP(Softmax, 13)

void Hardmax::infer(Inference& call) const { infer_along(kName, axis, call); }
void Hardmax::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  Wide out = make_wide(x.dtype, x.shape);
  for (const Lane& lane : lanes(x.shape, checked_axis(axis, x.rank()))) {
    int64_t best = 0;
    for (int64_t i = 1; i < lane.count; ++i) {
      if (x.at(lane.at(i)) > x.at(lane.at(best))) best = i;
    }
    if (lane.count > 0) out.real[static_cast<size_t>(lane.at(best))] = 1;
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(Hardmax, 13)

void LogSoftmax::infer(Inference& call) const { infer_along(kName, axis, call); }
void LogSoftmax::reference(Evaluation& call) const {
  Wide out = call.at(0);
  for_each_lane(call.at(0), axis, [&](const Lane& lane, double top, double sum) {
    const double shift = std::log(sum);
    for (int64_t i = 0; i < lane.count; ++i) {
      double& y = out.real[static_cast<size_t>(lane.at(i))];
      y = (y - top) - shift;
    }
  });
  call.out[0] = std::move(out);
}
PLANCK_OP(LogSoftmax, 13)

}  // namespace planck::ops
