#include "ops/expand.h"

#include <algorithm>

#include "base/checked.h"
#include "ops/needs_values.h"
#include "ops/support.h"

namespace planck::ops {

namespace {

Moved expanded(const Shape& from, const Shape& to) {
  check_size(to);
  return {to, broadcast_index(from, to)};
}

void check_extents(std::string_view op, const std::vector<Dim>& wish) {
  if (static_cast<int64_t>(wish.size()) > kAnyRank) {
    throw GraphError(op, ": rank ", wish.size(), " exceeds ", kAnyRank);
  }
  for (const Dim& d : wish) {
    if (d.is_constant() && d.constant() < 0) throw GraphError(op, ": ", d, " is no extent");
  }
}

}  // namespace

void Expand::infer(Inference& call) const {
  need_integer(kName, call, 1);
  need_rank(kName, call, 1, 1, 1);
  const auto& data = call.at(0).type;
  if (const Contents wish = contents_of(call, 1)) {
    check_extents(kName, *wish);
    // Of two symbols the one that was asked for: it may also stretch an extent that is 1 in a run.
    set_type(call, 0, data.dtype, broadcast(*wish, data.dims));
    set_contents(call, 0, take_contents(call, 0, [&](const Shape& from) {
                   return expanded(from, *known_shape(call.out[0].type.dims));
                 }));
    return;
  }
  const auto rank = call.at(1).type.dims[0].known();
  if (!rank || *rank > kAnyRank) {
    throw with(UnsupportedError("Expand: the rank of the result must be known before the run"),
               {.hint = kNeedsValues});
  }
  const auto longest = static_cast<size_t>(std::max(*rank, data.rank()));
  set_type(call, 0, data.dtype, fresh_dims(call, 0, longest));
}

void Expand::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  call.out[0] = take(x, expanded(x.shape, broadcast_shapes(x.shape, integers(call, 1))));
}
PLANCK_OP(Expand, 13)

namespace {

Moved tiled(const Shape& shape, const std::vector<int64_t>& repeats) {
  if (repeats.size() != shape.size()) {
    throw RunError("Tile: ", repeats.size(), " repeats for ", shape.size(), " axes");
  }
  Shape result;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (repeats[i] < 0) throw RunError("Tile: ", repeats[i], " is no number of repeats");
    result.push_back(checked_mul(shape[i], repeats[i], "Tile"));
  }
  check_size(result);
  if (checked_count(result) == 0) return {result, {}};
  std::vector<Walk> walks = plain_walks(shape);
  for (size_t i = 0; i < shape.size(); ++i) {
    walks[i].positions = counted(result[i]);
    for (int64_t& p : walks[i].positions) p %= shape[i];
  }
  return walk(walks);
}

}  // namespace

void Tile::infer(Inference& call) const {
  need_integer(kName, call, 1);
  need_rank(kName, call, 1, 1, 1);
  const auto& data = call.at(0).type;
  const Contents repeats = contents_of(call, 1);
  if (!repeats) return set_type(call, 0, data.dtype, fresh_dims(call, 0, data.dims.size()));
  if (repeats->size() != data.dims.size()) {
    throw GraphError("Tile: ", repeats->size(), " repeats for ", data);
  }
  check_extents(kName, *repeats);
  std::vector<Dim> dims = data.dims;
  for (size_t i = 0; i < dims.size(); ++i) dims[i] = dims[i] * (*repeats)[i];
  set_type(call, 0, data.dtype, std::move(dims));
  if (const auto numbers = known_shape(*repeats)) {
    set_contents(call, 0,
                 take_contents(call, 0, [&](const Shape& from) { return tiled(from, *numbers); }));
  }
}

void Tile::reference(Evaluation& call) const {
  call.out[0] = take(call.at(0), tiled(call.at(0).shape, integers(call, 1)));
}
PLANCK_OP(Tile, 13)

void Broadcast::infer(Inference& call) const {
  const auto& data = call.at(0).type;
  const auto both = broadcast(data.dims, shape);
  for (size_t i = 0; i < both.size(); ++i) {
    if (both.size() != shape.size() ||
        (both[i].is_constant() && shape[i].is_constant() && both[i] != shape[i])) {
      throw GraphError(data, " does not broadcast to [", joined(shape, ","), "]");
    }
  }
  set_type(call, 0, data.dtype, shape);
  set_contents(call, 0, take_contents(call, 0, [&](const Shape& from) {
                 return expanded(from, *known_shape(shape));
               }));
}

void Broadcast::reference(Evaluation& call) const {
  call.out[0] = take(call.at(0), expanded(call.at(0).shape, evaluated(shape, call)));
}
PLANCK_OWN_OP(Broadcast)

}  // namespace planck::ops
