#include "ops/cumsum.h"

#include "ops/elementwise.h"

namespace planck::ops {

void CumSum::infer(Inference& call) const {
  need_number(kName, call, 0);
  need_integer(kName, call, 1);
  const auto& x = call.at(0).type;
  const auto axis = numbers_of(call, 1);
  if (axis && axis->size() == 1) checked_axis((*axis)[0], x.rank());
  set_type(call, 0, x.dtype, x.dims);
}

void CumSum::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const int64_t axis = checked_axis(integer("the axis of CumSum", call, 1), x.rank());
  Wide out = make_wide(x.dtype, x.shape);
  with_numbers(x.dtype, [&](auto&& read) {
    if (x.count() == 0) return;
    for (const Lane& lane : lanes(x.shape, axis)) {
      check_guard();
      auto sum = read(x, 0);
      sum = 0;
      for (int64_t i = 0; i < lane.count; ++i) {
        check_guard_at(static_cast<size_t>(i));
        const auto at = static_cast<size_t>(lane.at(reverse != 0 ? lane.count - 1 - i : i));
        const auto next = wrapping_add(sum, read(x, at));
        store(out, at, exclusive != 0 ? sum : next);
        sum = next;
      }
    }
  });
  call.out[0] = std::move(out);
}
PLANCK_OP(CumSum, 14)

}  // namespace planck::ops
