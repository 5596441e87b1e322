#include "ops/unique.h"

#include <algorithm>
#include <compare>

#include "base/checked.h"
#include "ops/elementwise.h"

namespace planck::ops {

namespace {

// A total order: NaN is above every number and equal to itself.
template <class T>
std::strong_ordering ordered(T a, T b) {
  const bool a_odd = a != a, b_odd = b != b;
  if (a_odd || b_odd) return a_odd <=> b_odd;
  if (a < b) return std::strong_ordering::less;
  return b < a ? std::strong_ordering::greater : std::strong_ordering::equal;
}

// x as [before, parts, behind]: which elements belong to a part.
struct Parts {
  int64_t before = 1, count = 1, behind = 1;
  int64_t size() const { return before * behind; }
  size_t at(int64_t part, int64_t i) const {
    return static_cast<size_t>((i / behind * count + part) * behind + i % behind);
  }
};

Parts parts_of(const Wide& x, int64_t axis) {
  if (axis == kNoAxis) return {1, x.count(), 1};
  const auto at = static_cast<size_t>(checked_axis(axis, x.rank()));
  const std::span<const int64_t> shape(x.shape);
  return {checked_count(shape.first(at)), shape[at], checked_count(shape.subspan(at + 1))};
}

Shape shape_of(const Wide& x, int64_t axis, int64_t count) {
  if (axis == kNoAxis) return {count};
  Shape shape = x.shape;
  shape[static_cast<size_t>(checked_axis(axis, x.rank()))] = count;
  return shape;
}

Wide chosen(const Wide& x, int64_t axis, const std::vector<int64_t>& parts) {
  const Parts from = parts_of(x, axis);
  Parts to = from;
  to.count = static_cast<int64_t>(parts.size());
  Moved moved{shape_of(x, axis, to.count), {}};
  check_size(moved.shape);
  moved.index.resize(static_cast<size_t>(to.count * to.size()));
  for (int64_t p = 0; p < to.count; ++p) {
    check_guard_at(static_cast<size_t>(p));
    for (int64_t i = 0; i < to.size(); ++i) {
      moved.index[to.at(p, i)] = static_cast<int64_t>(from.at(parts[static_cast<size_t>(p)], i));
    }
  }
  return take(x, moved);
}

// Which parts are equal.
struct Groups {
  std::vector<int64_t> first, count;  // of each group
  std::vector<int64_t> group;         // of each part
};

Groups groups_of(const Wide& x, const Parts& parts) {
  Groups out;
  out.group.resize(static_cast<size_t>(parts.count));
  with_numbers(x.dtype, [&](auto&& read) {
    const auto compare = [&](int64_t a, int64_t b) {
      for (int64_t i = 0; i < parts.size(); ++i) {
        const auto order = ordered(read(x, parts.at(a, i)), read(x, parts.at(b, i)));
        if (order != 0) return order;
      }
      return std::strong_ordering::equal;
    };
    std::vector<int64_t> order = counted(parts.count);
    std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return compare(a, b) < 0; });
    for (size_t i = 0; i < order.size(); ++i) {
      check_guard_at(i);
      if (i == 0 || compare(order[i - 1], order[i]) != 0) {
        out.first.push_back(order[i]);
        out.count.push_back(0);
      }
      ++out.count.back();
      out.group[static_cast<size_t>(order[i])] = static_cast<int64_t>(out.first.size()) - 1;
    }
  });
  return out;
}

// In the order in which they come.
Groups as_they_come(const Groups& g) {
  std::vector<int64_t> order = counted(static_cast<int64_t>(g.first.size()));
  std::ranges::sort(order, {}, [&](int64_t i) { return g.first[static_cast<size_t>(i)]; });
  Groups out;
  std::vector<int64_t> place(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const auto from = static_cast<size_t>(order[i]);
    out.first.push_back(g.first[from]);
    out.count.push_back(g.count[from]);
    place[from] = static_cast<int64_t>(i);
  }
  for (const int64_t group : g.group) out.group.push_back(place[static_cast<size_t>(group)]);
  return out;
}

Wide line(const std::vector<int64_t>& numbers) {
  Wide out = make_wide(DType::s64, {static_cast<int64_t>(numbers.size())});
  out.integer = numbers;
  return out;
}

void infer_chosen(int64_t axis, Inference& call) {
  const auto& x = call.at(0).type;
  if (axis == kNoAxis) return set_type(call, 0, x.dtype, {fresh_dim(call, 0, 0)});
  std::vector<Dim> dims = x.dims;
  dims[static_cast<size_t>(checked_axis(axis, x.rank()))] = fresh_dim(call, 0, 0);
  set_type(call, 0, x.dtype, std::move(dims));
}

}  // namespace

void Unique::infer(Inference& call) const {
  infer_chosen(axis, call);
  const std::vector<Dim>& dims = call.at(0).type.dims;
  const Dim parts = axis == kNoAxis
                        ? product(dims)
                        : dims[static_cast<size_t>(checked_axis(axis, call.at(0).type.rank()))];
  for (size_t i = 1; i < call.out.size(); ++i) {
    set_type(call, i, DType::s64, {i == 2 ? parts : fresh_dim(call, 0, 0)});
  }
}

void Unique::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  Groups groups = groups_of(x, parts_of(x, axis));
  if (sorted == 0) groups = as_they_come(groups);
  call.out[0] = chosen(x, axis, groups.first);
  const std::vector<int64_t>* rest[] = {&groups.first, &groups.group, &groups.count};
  for (size_t i = 1; i < call.out.size(); ++i) call.out[i] = line(*rest[i - 1]);
}
PLANCK_OP(Unique, 11)

void Compress::infer(Inference& call) const {
  need_bool(kName, call, 1);
  need_rank(kName, call, 1, 1, 1);
  infer_chosen(axis, call);
}

void Compress::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const std::vector<int64_t>& holds = integers(call, 1);
  const int64_t count = parts_of(x, axis).count;
  std::vector<int64_t> parts;
  for (size_t i = 0; i < holds.size(); ++i) {
    if (holds[i] == 0) continue;
    if (static_cast<int64_t>(i) >= count) {
      throw RunError("Compress: the condition holds at ", i, " of ", count, " parts");
    }
    parts.push_back(static_cast<int64_t>(i));
  }
  call.out[0] = chosen(x, axis, parts);
}
PLANCK_OP(Compress, 9)

}  // namespace planck::ops
