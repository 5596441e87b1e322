#include "ops/pad.h"

#include <algorithm>
#include <optional>

#include "base/checked.h"
#include "ops/support.h"

namespace planck::ops {

namespace {

enum class Mode : uint8_t { constant, edge, reflect, wrap };

Mode mode_named(std::string_view name) {
  if (name == "constant") return Mode::constant;
  if (name == "edge") return Mode::edge;
  if (name == "reflect") return Mode::reflect;
  if (name == "wrap") return Mode::wrap;
  throw GraphError("Pad: mode '", name, "', expected constant, edge, reflect or wrap");
}

int64_t floor_mod(int64_t a, int64_t b) { return ((a % b) + b) % b; }

// Which element stands at `at`, which may lie outside [0, extent).
int64_t source(int64_t at, int64_t extent, Mode mode) {
  if (at >= 0 && at < extent) return at;
  if (mode == Mode::constant) return kFill;
  if (extent == 0) throw RunError("Pad: an empty axis has nothing to repeat");
  if (mode == Mode::edge) return std::clamp(at, int64_t{0}, extent - 1);
  if (mode == Mode::wrap) return floor_mod(at, extent);
  if (extent == 1) return 0;
  const int64_t period = 2 * (extent - 1);  // mirrored at both ends, ends not repeated
  const int64_t phase = floor_mod(at, period);
  return std::min(phase, period - phase);
}

// Axes in the order of pads, negative ones resolved.
std::vector<int64_t> padded_axes(std::optional<std::vector<int64_t>> given, int64_t rank,
                                 size_t pads) {
  std::vector<int64_t> axes = given ? std::move(*given) : counted(rank);
  checked_axes(axes, rank);
  for (int64_t& axis : axes) axis = checked_axis(axis, rank);
  if (pads != 2 * axes.size()) {
    throw GraphError("Pad: ", pads, " pads for ", axes.size(), " axes, expected two for each");
  }
  return axes;
}

}  // namespace

void Pad::infer(Inference& call) const {
  mode_named(mode);
  need_integer(kName, call, 1);
  if (call.has(2)) need_same_type(kName, call, 0, 2);
  const auto& data = call.at(0).type;
  const Contents pads = contents_of(call, 1);
  const auto given = call.has(3) ? numbers_of(call, 3) : std::nullopt;
  if (!pads || (call.has(3) && !given)) {
    return set_type(call, 0, data.dtype, fresh_dims(call, 0, data.dims.size()));
  }
  const auto axes = padded_axes(given, data.rank(), pads->size());
  std::vector<Dim> dims = data.dims;
  for (size_t i = 0; i < axes.size(); ++i) {
    Dim& d = dims[static_cast<size_t>(axes[i])];
    d = d + (*pads)[i] + (*pads)[axes.size() + i];
  }
  set_type(call, 0, data.dtype, std::move(dims));
}

void Pad::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const Mode rule = mode_named(mode);
  const auto& pads = integers(call, 1);
  const auto axes = padded_axes(call.has(3) ? std::optional(integers(call, 3)) : std::nullopt,
                                x.rank(), pads.size());
  Shape shape = x.shape;
  std::vector<int64_t> begins(shape.size(), 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(axes[i]);
    begins[axis] = pads[i];
    shape[axis] = checked_add(shape[axis], checked_add(pads[i], pads[axes.size() + i]), "Pad");
    if (shape[axis] < 0) throw RunError("Pad: axis ", axis, " would have extent ", shape[axis]);
  }
  check_size(shape);
  std::vector<Walk> walks = plain_walks(x.shape);
  for (size_t d = 0; d < walks.size(); ++d) {
    walks[d].positions.clear();
    for (int64_t i = 0; i < shape[d]; ++i) {
      walks[d].positions.push_back(source(i - begins[d], x.shape[d], rule));
    }
  }
  const bool has_value = call.has(2) && call.at(2).count() == 1;
  call.out[0] = take(x, walk(walks), has_value ? &call.at(2) : nullptr);
}
PLANCK_OP(Pad, 21)

}  // namespace planck::ops
