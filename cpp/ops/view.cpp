#include "ops/view.h"

#include "base/checked.h"
#include "ops/support.h"

namespace planck::ops {

void View::infer(Inference& call) const {
  const auto& data = call.at(0).type;
  const auto before = known_shape(data.dims), after = known_shape(shape);
  set_type(call, 0, data.dtype, shape);
  if (before && after && checked_count(*before) != checked_count(*after)) {
    throw GraphError(data, " has no view of shape [", joined(shape, ","), "]");
  }
  set_contents(call, 0, contents_of(call, 0));
}

void View::reference(Evaluation& call) const {
  call.out[0] = reshaped(call.at(0), evaluated(shape, call));
}
PLANCK_OWN_OP(View)

}  // namespace planck::ops
