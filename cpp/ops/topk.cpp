#include "ops/topk.h"

#include <algorithm>

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

// A total order: NaN is above every number, so that sorting is defined for any data.
template <class T>
bool below(T a, T b) {
  return a < b || (a == a && b != b);
}

// Indices along the lane, best first.
template <class T>
std::vector<int64_t> best(const std::vector<T>& values, int64_t k, bool largest) {
  std::vector<int64_t> order = counted(static_cast<int64_t>(values.size()));
  const auto better = [&](int64_t i, int64_t j) {
    const T a = values[static_cast<size_t>(i)], b = values[static_cast<size_t>(j)];
    if (below(a, b)) return !largest;
    if (below(b, a)) return largest;
    return i < j;
  };
  std::partial_sort(order.begin(), order.begin() + k, order.end(), better);
  order.resize(static_cast<size_t>(k));
  return order;
}

}  // namespace

void TopK::infer(Inference& call) const {
  need_number(kName, call, 0);
  need_integer(kName, call, 1);
  const auto& x = call.at(0).type;
  const auto at = static_cast<size_t>(checked_axis(axis, x.rank()));
  const Contents k = contents_of(call, 1);
  if (k && k->size() != 1)
    throw GraphError("TopK: k is ", call.at(1).type, ", expected one number");
  if (k && at_least((*k)[0] - x.dims[at], 1)) {
    throw GraphError("TopK: k is ", (*k)[0], ", but axis ", at, " of ", x, " has fewer elements");
  }
  std::vector<Dim> dims = x.dims;
  dims[at] = k ? (*k)[0] : fresh_dim(call, 0, at);
  set_type(call, 0, x.dtype, dims);
  set_type(call, 1, DType::s64, std::move(dims));
}

void TopK::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const int64_t at = checked_axis(axis, x.rank());
  const int64_t extent = x.shape[static_cast<size_t>(at)], k = integer("k", call, 1);
  if (k < 0 || k > extent) throw RunError("TopK: k is ", k, ", outside [0, ", extent, "]");
  Shape shape = x.shape;
  shape[static_cast<size_t>(at)] = k;
  Wide indices = make_wide(DType::s64, shape);
  Moved moved{shape, std::vector<int64_t>(indices.integer.size())};
  with_numbers(x.dtype, [&](auto&& read) {
    if (moved.index.empty()) return;
    const std::vector<Lane> from = lanes(x.shape, at), to = lanes(shape, at);
    std::vector<decltype(read(x, 0))> values(static_cast<size_t>(extent));
    for (size_t l = 0; l < from.size(); ++l) {
      check_guard();
      for (int64_t i = 0; i < extent; ++i) {
        values[static_cast<size_t>(i)] = read(x, static_cast<size_t>(from[l].at(i)));
      }
      int64_t place = 0;
      for (const int64_t i : best(values, k, largest != 0)) {
        const auto target = static_cast<size_t>(to[l].at(place++));
        indices.integer[target] = i;
        moved.index[target] = from[l].at(i);
      }
    }
  });
  call.out[0] = take(x, moved);
  call.out[1] = std::move(indices);
}
PLANCK_OP(TopK, 24)

}  // namespace planck::ops
