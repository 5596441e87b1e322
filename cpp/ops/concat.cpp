#include "ops/concat.h"

#include <algorithm>

#include "ops/support.h"

namespace planck::ops {

namespace {

// Extents off the axis are equal; where one spells a number, that one stays.
void merge_dims(std::vector<Dim>& dims, const std::vector<Dim>& next, size_t axis) {
  for (size_t d = 0; d < dims.size(); ++d) {
    if (d == axis) continue;
    if (dims[d].is_constant() && next[d].is_constant() && dims[d] != next[d]) {
      throw GraphError("Concat: [", joined(dims, ","), "] and [", joined(next, ","),
                       "] differ on axis ", d);
    } else if (next[d].is_constant()) {
      dims[d] = next[d];
    }
  }
  dims[axis] = dims[axis] + next[axis];
}

Contents joined_contents(const Inference& call) {
  std::vector<Dim> all;
  for (size_t i = 0; i < call.in.size(); ++i) {
    const Contents part = contents_of(call, i);
    if (!part || all.size() > kMostContents) return std::nullopt;
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

// Copies the rows of one input into their places, `width` elements for each outer index.
template <class T>
void copy_rows(const std::vector<T>& from, std::vector<T>& to, int64_t outer, int64_t width,
               int64_t whole, int64_t offset) {
  for (int64_t o = 0; o < outer; ++o) {
    check_guard();
    const auto at = from.begin() + o * width;
    std::copy(at, at + width, to.begin() + o * whole + offset);
  }
}

Shape joined_shape(const Evaluation& call, size_t axis) {
  Shape shape = call.at(0).shape;
  for (size_t i = 1; i < call.in.size(); ++i) {
    const Shape& next = call.at(i).shape;
    for (size_t d = 0; d < shape.size(); ++d) {
      if (next.size() != shape.size() || (d != axis && next[d] != shape[d])) {
        throw RunError("Concat: ", shape_text(shape), " and ", shape_text(next), " do not join");
      }
    }
    shape[axis] += next[axis];
  }
  return shape;
}

}  // namespace

void Concat::infer(Inference& call) const {
  need_rank(kName, call, 0, 1);
  const auto& first = call.at(0).type;
  const auto at = static_cast<size_t>(checked_axis(axis, first.rank()));
  std::vector<Dim> dims = first.dims;
  for (size_t i = 1; i < call.in.size(); ++i) {
    need_same_type(kName, call, 0, i);
    need_rank(kName, call, i, first.rank(), first.rank());
    merge_dims(dims, call.at(i).type.dims, at);
  }
  set_type(call, 0, first.dtype, std::move(dims));
  if (at == 0) set_contents(call, 0, joined_contents(call));  // rows follow one another
}

void Concat::reference(Evaluation& call) const {
  const auto at = static_cast<size_t>(checked_axis(axis, call.at(0).rank()));
  Wide out = make_wide(call.at(0).dtype, joined_shape(call, at));
  int64_t outer = 1, inner = 1, offset = 0;
  for (size_t d = 0; d < at; ++d) outer *= out.shape[d];
  for (size_t d = at + 1; d < out.shape.size(); ++d) inner *= out.shape[d];
  for (size_t i = 0; i < call.in.size(); ++i) {
    const Wide& part = call.at(i);
    if (part.floating() != out.floating()) throw RunError("Concat joins different types");
    const int64_t width = part.shape[at] * inner, whole = out.shape[at] * inner;
    copy_rows(part.real, out.real, out.floating() ? outer : 0, width, whole, offset);
    copy_rows(part.integer, out.integer, out.floating() ? 0 : outer, width, whole, offset);
    offset += width;
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(Concat, 13)

}  // namespace planck::ops
