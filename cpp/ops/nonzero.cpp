#include "ops/nonzero.h"

#include "ops/support.h"

namespace planck::ops {

void NonZero::infer(Inference& call) const {
  set_type(call, 0, DType::s64, {call.at(0).type.rank(), fresh_dim(call, 0, 1)});
}

void NonZero::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  std::vector<int64_t> places;
  for (int64_t i = 0; i < x.count(); ++i) {
    check_guard_at(static_cast<size_t>(i));
    if (x.at(i) != 0) places.push_back(i);
  }
  const auto count = static_cast<int64_t>(places.size());
  const auto strides = row_major_strides(x.shape);
  Wide out = make_wide(DType::s64, {x.rank(), count});
  for (size_t d = 0; d < strides.size(); ++d) {
    for (size_t i = 0; i < places.size(); ++i) {
      check_guard_at(i);
      out.integer[d * places.size() + i] = places[i] / strides[d] % x.shape[d];
    }
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(NonZero, 13)

}  // namespace planck::ops
