#include "ops/cumsum.h"

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

void infer_along(std::string_view op, Inference& call) {
  need_number(op, call, 0);
  need_integer(op, call, 1);
  const auto& x = call.at(0).type;
  const auto axis = numbers_of(call, 1);
  if (axis && axis->size() == 1) checked_axis((*axis)[0], x.rank());
  set_type(call, 0, x.dtype, x.dims);
}

// Every element becomes f of all before it, in the order of the walk, and with it unless exclusive.
void accumulate(Evaluation& call, const auto& op, int start, auto&& f) {
  const Wide& x = call.at(0);
  const int64_t axis = checked_axis(integer("the axis", call, 1), x.rank());
  Wide out = make_wide(x.dtype, x.shape);
  with_numbers(x.dtype, [&](auto&& read) {
    if (x.count() == 0) return;
    for (const Lane& lane : lanes(x.shape, axis)) {
      check_guard();
      auto total = static_cast<decltype(read(x, 0))>(start);
      for (int64_t i = 0; i < lane.count; ++i) {
        check_guard_at(static_cast<size_t>(i));
        const auto at = static_cast<size_t>(lane.at(op.reverse != 0 ? lane.count - 1 - i : i));
        const auto next = f(total, read(x, at));
        store(out, at, op.exclusive != 0 ? total : next);
        total = next;
      }
    }
  });
  call.out[0] = std::move(out);
}

}  // namespace

void CumProd::infer(Inference& call) const { infer_along(kName, call); }
void CumProd::reference(Evaluation& call) const {
  accumulate(call, *this, 1, [](auto a, auto b) { return wrapping_mul(a, b); });
}
PLANCK_OP(CumProd, 26)

void CumSum::infer(Inference& call) const { infer_along(kName, call); }
void CumSum::reference(Evaluation& call) const {
  accumulate(call, *this, 0, [](auto a, auto b) { return wrapping_add(a, b); });
}
PLANCK_OP(CumSum, 14)

}  // namespace planck::ops
