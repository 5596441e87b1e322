#include "ops/trilu.h"

#include <algorithm>

#include "ops/support.h"

namespace planck::ops {

void Trilu::infer(Inference& call) const {
  need_rank(kName, call, 0, 2);
  if (call.has(1)) need_integer(kName, call, 1);
  set_type(call, 0, call.at(0).type.dtype, call.at(0).type.dims);
}

void Trilu::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  if (x.rank() < 2) throw RunError("Trilu: ", shape_text(x.shape), " is no matrix");
  const int64_t columns = x.shape.back(), rows = x.shape[x.shape.size() - 2];
  // Beyond both corners nothing changes, and the sum below cannot overflow.
  const int64_t k = call.has(1) ? std::clamp(integer("k", call, 1), -rows - 1, columns + 1) : 0;
  Wide out = x;
  for (int64_t i = 0; i < x.count(); ++i) {
    check_guard_at(static_cast<size_t>(i));
    const int64_t column = i % columns, row = i / columns % rows;
    const bool keep = upper != 0 ? column >= row + k : column <= row + k;
    if (keep) continue;
    if (out.floating()) {
      out.real[static_cast<size_t>(i)] = 0;
    } else {
      out.integer[static_cast<size_t>(i)] = 0;
    }
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(Trilu, 14)

}  // namespace planck::ops
