#include "ops/reshape.h"

#include <algorithm>
#include <optional>

#include "base/checked.h"
#include "ops/needs_values.h"
#include "ops/support.h"

namespace planck::ops {

namespace {

void keep_contents(Inference& call) { set_contents(call, 0, contents_of(call, 0)); }

// What -1 stands for: elements of `from` over those of `rest`. Equal factors cancel first, since
// exact_div divides by one term only and B*(P+L) / (P+L) has two.
Dim remaining(std::vector<Dim> from, std::vector<Dim> rest) {
  std::erase_if(rest, [&](const Dim& d) {
    const auto same = std::ranges::find(from, d);
    if (same == from.end() || d == Dim(0)) return false;
    from.erase(same);
    return true;
  });
  const Dim all = product(from), part = product(rest);
  if (part == Dim(0)) throw GraphError("Reshape: -1 beside an extent of 0 could be anything");
  if (const auto exact = exact_div(all, part)) return *exact;
  if (all.is_constant() && part.is_constant()) {
    throw GraphError("Reshape: ", all, " elements do not divide by ", part);
  }
  return floordiv(all, part);
}

// The resulting extents for extents and a wish, both symbolic or both numbers (as Dims).
std::vector<Dim> reshaped_dims(const std::vector<Dim>& from, std::vector<Dim> wish,
                               bool allowzero) {
  std::optional<size_t> open;
  for (size_t i = 0; i < wish.size(); ++i) {
    if (wish[i] == Dim(0) && !allowzero) {
      if (i >= from.size()) {
        throw GraphError("Reshape: 0 at place ", i, " copies an extent, but the input has rank ",
                         from.size());
      }
      wish[i] = from[i];
    } else if (wish[i] == Dim(-1)) {
      if (open) throw GraphError("Reshape: the shape [", joined(wish, ","), "] has two -1");
      open = i;
    } else if (wish[i].is_constant() && wish[i].constant() < 0) {
      throw GraphError("Reshape: ", wish[i], " is no extent, expected -1 or more");
    }
  }
  if (open) {
    std::vector<Dim> rest = wish;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(*open));
    wish[*open] = remaining(from, std::move(rest));
    return wish;
  }
  const auto before = known_shape(from), after = known_shape(wish);
  if (before && after && checked_count(*before) != checked_count(*after)) {
    throw GraphError("Reshape: [", joined(from, ","), "] has no view of shape [", joined(wish, ","),
                     "]");
  }
  return wish;
}

}  // namespace

void Reshape::infer(Inference& call) const {
  need_integer(kName, call, 1);
  need_rank(kName, call, 1, 1, 1);
  const auto& data = call.at(0).type;
  if (const Contents wish = contents_of(call, 1)) {
    set_type(call, 0, data.dtype, reshaped_dims(data.dims, *wish, allowzero != 0));
  } else if (const auto rank = call.at(1).type.dims[0].known()) {
    if (*rank > kAnyRank) throw GraphError("Reshape: rank ", *rank, " exceeds ", kAnyRank);
    set_type(call, 0, data.dtype, fresh_dims(call, 0, static_cast<size_t>(*rank)));
  } else {
    throw with(UnsupportedError("Reshape: the rank of the result must be known before the run"),
               {.hint = kNeedsValues});
  }
  keep_contents(call);
}

void Reshape::reference(Evaluation& call) const {
  const Shape& from = call.at(0).shape;
  const auto& wish = integers(call, 1);
  const auto dims =
      reshaped_dims({from.begin(), from.end()}, {wish.begin(), wish.end()}, allowzero != 0);
  call.out[0] = reshaped(call.at(0), *known_shape(dims));
}
PLANCK_OP(Reshape, 21)

namespace {

size_t flatten_axis(int64_t axis, int64_t rank) {  // rank itself is allowed here
  return static_cast<size_t>(axis == rank ? rank : checked_axis(axis, rank));
}

}  // namespace

void Flatten::infer(Inference& call) const {
  const auto& data = call.at(0).type;
  const size_t at = flatten_axis(axis, data.rank());
  const std::span<const Dim> dims = data.dims;
  set_type(call, 0, data.dtype, {product(dims.first(at)), product(dims.subspan(at))});
  keep_contents(call);
}

void Flatten::reference(Evaluation& call) const {
  const std::span<const int64_t> shape = call.at(0).shape;
  const size_t at = flatten_axis(axis, call.at(0).rank());
  call.out[0] =
      reshaped(call.at(0), {checked_count(shape.first(at)), checked_count(shape.subspan(at))});
}
PLANCK_OP(Flatten, 21)

namespace {

template <class T>
std::vector<T> squeezed(const std::vector<T>& dims, const std::vector<int64_t>* axes) {
  std::vector<bool> drop(dims.size(), false);
  if (axes == nullptr) {
    for (size_t i = 0; i < dims.size(); ++i) drop[i] = dims[i] == T(1);
  } else {
    for (const int64_t axis : checked_axes(*axes, static_cast<int64_t>(dims.size()))) {
      drop[static_cast<size_t>(axis)] = true;
    }
  }
  std::vector<T> out;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (!drop[i]) out.push_back(dims[i]);
    const Dim& extent(dims[i]);  // a symbol passes: the run sees whether it is 1
    if (drop[i] && extent.is_constant() && extent != Dim(1)) {
      throw GraphError("Squeeze: axis ", i, " has extent ", extent, ", expected 1");
    }
  }
  return out;
}

template <class T>
std::vector<T> unsqueezed(const std::vector<T>& dims, const std::vector<int64_t>& axes) {
  const auto places = checked_axes(axes, static_cast<int64_t>(dims.size() + axes.size()));
  std::vector<T> out = dims;
  for (const int64_t at : places) out.insert(out.begin() + static_cast<std::ptrdiff_t>(at), T(1));
  return out;
}

}  // namespace

void Squeeze::infer(Inference& call) const {
  const auto& data = call.at(0).type;
  if (call.has(1)) {
    const auto axes = needed_numbers(kName, "axes", call, 1);
    set_type(call, 0, data.dtype, squeezed(data.dims, &axes));
  } else {
    set_type(call, 0, data.dtype, squeezed(data.dims, nullptr));
  }
  keep_contents(call);
}

void Squeeze::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  call.out[0] = reshaped(x, squeezed(x.shape, call.has(1) ? &integers(call, 1) : nullptr));
}
PLANCK_OP(Squeeze, 21)

void Unsqueeze::infer(Inference& call) const {
  const auto& data = call.at(0).type;
  const auto axes = needed_numbers(kName, "axes", call, 1);
  set_type(call, 0, data.dtype, unsqueezed(data.dims, axes));
  keep_contents(call);
}

void Unsqueeze::reference(Evaluation& call) const {
  call.out[0] = reshaped(call.at(0), unsqueezed(call.at(0).shape, integers(call, 1)));
}
PLANCK_OP(Unsqueeze, 21)

}  // namespace planck::ops
