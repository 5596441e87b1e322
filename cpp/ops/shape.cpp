#include "ops/shape.h"

#include <algorithm>

#include "ops/support.h"

namespace planck::ops {

namespace {

struct Slot {
  size_t from, to;
};

Slot clamped(const Shape& op, size_t rank) {
  const auto count = static_cast<int64_t>(rank);
  const auto clamp = [&](int64_t at) {
    return static_cast<size_t>(std::clamp(at < 0 ? at + count : at, int64_t{0}, count));
  };
  const size_t from = clamp(op.start);
  return {from, std::max(from, clamp(op.end))};
}

template <class T>
std::vector<T> cut(const std::vector<T>& dims, Slot slot) {
  const auto at = [&](size_t i) { return dims.begin() + static_cast<std::ptrdiff_t>(i); };
  return {at(slot.from), at(slot.to)};
}

}  // namespace

void Shape::infer(Inference& call) const {
  const auto& dims = call.at(0).type.dims;
  std::vector<Dim> kept = cut(dims, clamped(*this, dims.size()));
  set_type(call, 0, DType::s64, {static_cast<int64_t>(kept.size())});
  set_contents(call, 0, std::move(kept));
}

void Shape::reference(Evaluation& call) const {
  const planck::Shape& shape = call.at(0).shape;
  planck::Shape kept = cut(shape, clamped(*this, shape.size()));
  Wide out(DType::s64, {static_cast<int64_t>(kept.size())});
  out.integer = std::move(kept);
  call.out[0] = std::move(out);
}
PLANCK_OP(Shape, 21)

void Size::infer(Inference& call) const {
  set_type(call, 0, DType::s64, {});
  set_contents(call, 0, contents_if([&]() -> Contents {
                 return std::vector<Dim>{product(call.at(0).type.dims)};
               }));
}

void Size::reference(Evaluation& call) const {
  call.out[0] = Wide(DType::s64, {});
  call.out[0].integer[0] = call.at(0).count();
}
PLANCK_OP(Size, 21)

}  // namespace planck::ops
