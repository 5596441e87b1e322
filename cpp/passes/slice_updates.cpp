// passes/slice_updates.cpp: a ScatterND whose indices are all places of a slice puts that slice
// between what lies before and behind it; a slice that is everything is the result.
#include <optional>
#include <variant>

#include "base/guard.h"
#include "ops/concat.h"
#include "ops/scatter.h"
#include "ops/slice.h"
#include "ops/support.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// The box of places that the indices name, one after the other; a refusal if they are no box.
struct Box {
  Shape start, extent;
};
std::variant<Box, Refusal> box_of(const Tensor& indices, const Shape& data) {
  const Shape& shape = indices.shape();
  const size_t rank = data.size();
  if (shape.empty() || shape.back() != static_cast<int64_t>(rank) || shape.size() != rank + 1) {
    return refuse("the indices ", indices.type(), " do not name single elements in as many axes");
  }
  const Wide wide = widen(indices);
  Box box{{}, {shape.begin(), shape.end() - 1}};
  if (wide.integer.empty()) return refuse("the indices are empty");
  for (size_t i = 0; i < rank; ++i) {
    const int64_t at = wide.integer[i];
    box.start.push_back(at < 0 ? at + data[i] : at);
  }
  Shape place(rank, 0);  // inside the box
  for (size_t at = 0; at < wide.integer.size(); at += rank) {
    check_guard_at(at);
    for (size_t i = 0; i < rank; ++i) {
      const int64_t index = wide.integer[at + i];
      if ((index < 0 ? index + data[i] : index) != box.start[i] + place[i]) {
        return refuse("the indices are not the places of a slice, in order");
      }
    }
    for (size_t i = rank; i-- > 0 && ++place[i] == box.extent[i];) place[i] = 0;
  }
  return box;
}

// The data before and behind the box on the one axis where it is not everything.
Outcome joined_parts(const Graph& g, const Node& n, const Box& box, const Shape& data) {
  Patch patch(g, n.id);
  std::optional<size_t> cut;
  for (size_t i = 0; i < data.size(); ++i) {
    if (box.start[i] == 0 && box.extent[i] == data[i]) continue;
    if (cut) return refuse("the slice leaves out elements on the axes ", *cut, " and ", i);
    cut = i;
  }
  if (!cut) {
    patch.replace(n.outputs[0], n.inputs[2]);
    return patch;
  }
  const auto axis = static_cast<int64_t>(*cut);
  const int64_t start = box.start[*cut], end = start + box.extent[*cut], extent = data[*cut];
  const auto part = [&](int64_t from, int64_t to) {
    return patch.add(ops::Crop{{axis}, {Dim(from)}, {Dim(to)}, {1}}, {n.inputs[0]});
  };
  std::vector<ValueId> parts;
  if (start > 0) parts.push_back(part(0, start));
  parts.push_back(n.inputs[2]);
  if (end < extent) parts.push_back(part(end, extent));
  patch.replace(n.outputs[0], patch.add(ops::Concat{axis}, std::move(parts)));
  return patch;
}

std::optional<Outcome> slice_updates(const Graph& g, const Node& n) {
  if (!n.is("ScatterND")) return std::nullopt;
  const auto data = known_shape(dims_of(g, n.inputs[0]));
  if (n.as<ops::ScatterND>().reduction != "none") return refuse("it joins instead of replacing");
  if (!is_constant(g, n.inputs[1])) return refuse("the indices are not constant");
  if (!data) return refuse("the run alone knows the shape ", g.value(n.inputs[0]).type());
  const auto box = box_of(*g.value(n.inputs[1]).fact.constant, *data);
  if (const auto* refusal = std::get_if<Refusal>(&box)) return *refusal;
  return joined_parts(g, n, std::get<Box>(box), *data);
}

}  // namespace

Pass pass_slice_updates() { return node_pass("slice_updates", slice_updates); }

}  // namespace planck
