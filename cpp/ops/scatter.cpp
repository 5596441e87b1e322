#include "ops/scatter.h"

#include <cmath>

#include "base/checked.h"
#include "ops/elementwise.h"

namespace planck::ops {

namespace {

enum class Join : uint8_t { none, add, mul, max, min };

Join join_named(std::string_view op, std::string_view name) {
  constexpr std::string_view kNames[] = {"none", "add", "mul", "max", "min"};
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (kNames[i] == name) return static_cast<Join>(i);
  }
  throw GraphError(op, ": reduction '", name, "', expected none, add, mul, max or min");
}

template <class T>
T joined_value(Join join, T old, T fresh) {
  if constexpr (std::floating_point<T>) {
    const bool extreme = join == Join::max || join == Join::min;
    if (extreme && (std::isnan(old) || std::isnan(fresh))) return old + fresh;
  }
  switch (join) {
    case Join::none:
      return fresh;
    case Join::add:
      return wrapping_add(old, fresh);
    case Join::mul:
      return wrapping_mul(old, fresh);
    case Join::max:
      return old < fresh ? fresh : old;
    case Join::min:
      return fresh < old ? fresh : old;
  }
  return fresh;
}

// out[places[i]] joins updates[i], in order.
void scatter(Wide& out, const std::vector<int64_t>& places, const Wide& updates, Join join) {
  with_numbers(out.dtype, [&](auto&& read) {
    for (size_t i = 0; i < places.size(); ++i) {
      check_guard_at(i);
      const auto at = static_cast<size_t>(places[i]);
      store(out, at, joined_value(join, read(out, at), read(updates, i)));
    }
  });
}

int64_t checked_place(int64_t index, int64_t extent) {
  if (index >= -extent && index < extent) return index < 0 ? index + extent : index;
  throw RunError("index ", index, " is outside [", -extent, ", ", extent, ")");
}

void infer_scatter(std::string_view op, Inference& call) {
  need_rank(op, call, 0, 1);
  need_integer(op, call, 1);
  need_same_type(op, call, 0, 2);
  set_type(call, 0, call.at(0).type.dtype, call.at(0).type.dims);
}

}  // namespace

void ScatterElements::infer(Inference& call) const {
  join_named(kName, reduction);
  checked_axis(axis, call.at(0).type.rank());
  infer_scatter(kName, call);
  need_rank(kName, call, 1, call.at(0).type.rank(), call.at(0).type.rank());
}

void ScatterElements::reference(Evaluation& call) const {
  const Wide &data = call.at(0), &indices = call.at(1), &updates = call.at(2);
  const auto at = static_cast<size_t>(checked_axis(axis, data.rank()));
  if (indices.shape != updates.shape || indices.rank() != data.rank()) {
    throw RunError("ScatterElements: indices ", shape_text(indices.shape), " and updates ",
                   shape_text(updates.shape), " for ", shape_text(data.shape));
  }
  std::vector<Walk> walks = plain_walks(data.shape);
  for (size_t d = 0; d < walks.size(); ++d) {
    if (d != at && indices.shape[d] > data.shape[d]) {
      throw RunError("ScatterElements: indices ", shape_text(indices.shape), " exceed ",
                     shape_text(data.shape));
    }
    walks[d].positions = counted(indices.shape[d]);
  }
  const int64_t stride = walks[at].stride;
  walks[at].positions.assign(walks[at].positions.size(), 0);
  Moved places = walk(walks);
  for (size_t i = 0; i < places.index.size(); ++i) {
    places.index[i] += stride * checked_place(integers(call, 1)[i], data.shape[at]);
  }
  Wide out = data;
  scatter(out, places.index, updates, join_named(kName, reduction));
  call.out[0] = std::move(out);
}
PLANCK_OP(ScatterElements, 18)

void ScatterND::infer(Inference& call) const {
  join_named(kName, reduction);
  need_rank(kName, call, 1, 1);
  infer_scatter(kName, call);
}

void ScatterND::reference(Evaluation& call) const {
  const Wide &data = call.at(0), &indices = call.at(1), &updates = call.at(2);
  const int64_t used = indices.shape.empty() ? 0 : indices.shape.back();
  Shape expected(indices.shape.begin(), indices.shape.end() - (indices.shape.empty() ? 0 : 1));
  if (used < 1 || used > data.rank()) throw RunError("ScatterND: rows of ", used, " coordinates");
  expected.insert(expected.end(), data.shape.begin() + used, data.shape.end());
  if (expected != updates.shape) {
    throw RunError("ScatterND: updates are ", shape_text(updates.shape), ", expected ",
                   shape_text(expected));
  }
  const auto strides = row_major_strides(data.shape);
  const int64_t rows = checked_count(indices.shape) / used;
  const int64_t rest = rows == 0 ? 0 : updates.count() / rows;
  std::vector<int64_t> places;
  for (int64_t r = 0; r < rows; ++r) {
    check_guard();
    int64_t start = 0;
    for (int64_t k = 0; k < used; ++k) {
      const auto axis = static_cast<size_t>(k);
      const int64_t index = integers(call, 1)[static_cast<size_t>(r * used + k)];
      start += strides[axis] * checked_place(index, data.shape[axis]);
    }
    for (int64_t i = 0; i < rest; ++i) places.push_back(start + i);
  }
  Wide out = data;
  scatter(out, places, updates, join_named(kName, reduction));
  call.out[0] = std::move(out);
}
PLANCK_OP(ScatterND, 18)

void TensorScatter::infer(Inference& call) const {
  if (mode != "linear" && mode != "circular") {
    throw GraphError("TensorScatter: mode '", mode, "', expected linear or circular");
  }
  const TensorType& cache = call.at(0).type;
  if (checked_axis(axis, cache.rank()) == 0) throw GraphError("TensorScatter along the batch");
  need_same_type(kName, call, 0, 1);
  need_rank(kName, call, 1, cache.rank(), cache.rank());
  if (call.has(2)) need_integer(kName, call, 2);
  set_type(call, 0, cache.dtype, cache.dims);
}

void TensorScatter::reference(Evaluation& call) const {
  const Wide &cache = call.at(0), &update = call.at(1);
  const auto at = static_cast<size_t>(checked_axis(axis, cache.rank()));
  const int64_t extent = cache.shape[at];
  Shape like = cache.shape;
  like[at] = update.shape.size() == like.size() ? update.shape[at] : -1;
  const int64_t batches = cache.shape[0];
  if (update.shape != like || (call.has(2) && call.at(2).count() != batches)) {
    throw RunError("TensorScatter: ", shape_text(update.shape), " does not go into ",
                   shape_text(cache.shape));
  }
  std::vector<Walk> walks = plain_walks(cache.shape);
  std::vector<int64_t> places;
  if (extent == 0 && like[at] > 0) throw RunError("TensorScatter: the cache has no room");
  for (int64_t b = 0; b < batches; ++b) {
    check_guard();
    const int64_t start = call.has(2) ? integers(call, 2)[static_cast<size_t>(b)] : 0;
    if (start < 0 || (mode == "linear" && start > extent - like[at])) {
      throw RunError("TensorScatter: the update of batch ", b, " starts at ", start);
    }
    walks[0].positions = {b};
    walks[at].positions.clear();
    for (int64_t i = 0; i < like[at]; ++i) {
      walks[at].positions.push_back((start % extent + i) % extent);
    }
    const Moved part = walk(walks);
    places.insert(places.end(), part.index.begin(), part.index.end());
  }
  Wide out = cache;
  scatter(out, places, update, Join::none);
  call.out[0] = std::move(out);
}
PLANCK_OP(TensorScatter, 24)

}  // namespace planck::ops
