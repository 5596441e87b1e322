#include "ops/onehot.h"

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

template <class T>
std::vector<T> with_depth(std::vector<T> dims, int64_t axis, T depth) {
  const int64_t at = checked_axis(axis, static_cast<int64_t>(dims.size()) + 1);
  dims.insert(dims.begin() + at, std::move(depth));
  return dims;
}

}  // namespace

void OneHot::infer(Inference& call) const {
  need_number(kName, call, 0);
  need_number(kName, call, 1);  // ONNX allows floats here too
  need_rank(kName, call, 2, 1, 1);
  const Contents depth = contents_of(call, 1);
  const auto& indices = call.at(0).type;
  const auto at = static_cast<size_t>(checked_axis(axis, indices.rank() + 1));
  const bool known = depth && depth->size() == 1;
  set_type(call, 0, call.at(2).type.dtype,
           with_depth(indices.dims, axis, known ? (*depth)[0] : fresh_dim(call, 0, at)));
}

void OneHot::reference(Evaluation& call) const {
  const Wide &indices = call.at(0), &values = call.at(2);
  if (call.at(1).count() != 1) throw RunError("OneHot: depth is not one number");
  if (values.count() != 2) throw RunError("OneHot: ", values.count(), " values, expected 2");
  const int64_t depth = to_integer(call.at(1).at(0));
  if (depth < 0) throw RunError("OneHot: the depth ", depth, " is negative");
  const Shape shape = with_depth(indices.shape, axis, depth);
  check_size(shape);
  Moved moved{shape, std::vector<int64_t>(Wide(DType::s64, shape).integer.size(), 0)};
  if (!moved.index.empty()) {
    size_t i = 0;
    for (const Lane& lane : lanes(shape, checked_axis(axis, indices.rank() + 1))) {
      check_guard();
      int64_t index = to_integer(indices.at(static_cast<int64_t>(i++)));
      if (index < 0 && index >= -depth) index += depth;
      if (index >= 0 && index < depth) moved.index[static_cast<size_t>(lane.at(index))] = 1;
    }
  }
  call.out[0] = take(values, moved);
}
PLANCK_OP(OneHot, 11)

}  // namespace planck::ops
