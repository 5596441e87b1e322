#include "ops/arg.h"

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

template <class T>
std::vector<T> without(std::vector<T> dims, size_t axis, bool keep) {
  if (keep) {
    dims[axis] = T(1);
  } else {
    dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  }
  return dims;
}

template <class Op>
void infer_arg(const Op& op, Inference& call) {
  need_number(Op::kName, call, 0);
  const auto& x = call.at(0).type;
  const auto at = static_cast<size_t>(checked_axis(op.axis, x.rank()));
  if (x.dims[at] == Dim(0)) throw GraphError(Op::kName, ": the axis ", at, " of ", x, " is empty");
  set_type(call, 0, DType::s64, without(x.dims, at, op.keepdims != 0));
}

// better(a, b): a is to be chosen over b.
template <class Op>
void evaluate_arg(const Op& op, Evaluation& call, auto&& better) {
  const Wide& x = call.at(0);
  const int64_t axis = checked_axis(op.axis, x.rank());
  Wide out = make_wide(DType::s64, without(x.shape, static_cast<size_t>(axis), op.keepdims != 0));
  if (out.count() != 0 && x.count() == 0) throw RunError(Op::kName, " of an empty axis");
  const bool last = op.select_last_index != 0;
  with_numbers(x.dtype, [&](auto&& read) {
    size_t row = 0;
    if (x.count() == 0) return;
    for (const Lane& lane : lanes(x.shape, axis)) {
      check_guard();
      int64_t best = 0;
      for (int64_t i = 1; i < lane.count; ++i) {
        const auto a = read(x, static_cast<size_t>(lane.at(i)));
        const auto b = read(x, static_cast<size_t>(lane.at(best)));
        if (better(a, b) || (last && !better(b, a))) best = i;
      }
      out.integer[row++] = best;
    }
  });
  call.out[0] = std::move(out);
}

}  // namespace

void ArgMax::infer(Inference& call) const { infer_arg(*this, call); }
void ArgMax::reference(Evaluation& call) const {
  evaluate_arg(*this, call, [](auto a, auto b) { return a > b || (a != a && b == b); });
}
PLANCK_OP(ArgMax, 13)

void ArgMin::infer(Inference& call) const { infer_arg(*this, call); }
void ArgMin::reference(Evaluation& call) const {
  evaluate_arg(*this, call, [](auto a, auto b) { return a < b || (a != a && b == b); });
}
PLANCK_OP(ArgMin, 13)

}  // namespace planck::ops
