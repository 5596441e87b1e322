#include "ops/slice.h"

#include <algorithm>
#include <optional>

#include "ops/support.h"

namespace planck::ops {

namespace {

// Exporters write INT32_MAX or INT64_MAX for "to the end". No extent reaches INT32_MAX: a tensor
// has at most 4 GiB in its 8-byte form.
constexpr int64_t kToTheEnd = INT32_MAX;

// What one axis keeps: count positions from start on.
struct Kept {
  int64_t start, step, count;
};

int64_t from_back(int64_t at, int64_t extent) { return at < 0 ? at + extent : at; }

Kept clamped(int64_t start, int64_t end, int64_t step, int64_t extent) {
  if (step == 0) throw GraphError("Slice: a step is 0");
  if (step > 0) {
    start = std::clamp(from_back(start, extent), int64_t{0}, extent);
    end = std::clamp(from_back(end, extent), int64_t{0}, extent);
    return {start, step, end <= start ? 0 : (end - start - 1) / step + 1};
  }
  // INT64_MIN has no positive twin, and no step needs to exceed the extent.
  const int64_t back = std::min(-std::max(step, -INT64_MAX), std::max<int64_t>(extent, 1));
  start = std::clamp(from_back(start, extent), int64_t{-1}, extent - 1);
  end = std::clamp(from_back(end, extent), int64_t{-1}, extent - 1);
  return {start, -back, start <= end ? 0 : (start - end - 1) / back + 1};
}

// Where a forward slice of a symbolic extent begins. Nothing if its sign cannot be told.
std::optional<Dim> symbolic_start(const Dim& start, const Dim& extent) {
  const auto from_end = (start - extent).known();  // extent - 3 means -3
  if (start.is_constant() || !from_end) {
    if (at_least(start, 0)) return start;
    return start.is_constant() ? std::optional(larger(extent + start, 0)) : std::nullopt;
  }
  return *from_end >= 0 ? extent : larger(start, 0);
}

// A length that an exporter computed, such as (T-1)//2 of a convolution, is an extent wherever the
// run gets that far. One below 0 would count from the back in ONNX; here it makes the slice's own
// extent negative, so that such a run fails when its shapes are bound. Wider steps could round it
// up to 0.
bool taken_for_extent(const Dim& end, int64_t step) {
  return at_least(end, 0) || (step == 1 && end.bounds({}).high > 0);
}

std::optional<Dim> symbolic_end(const Dim& end, int64_t step, const Dim& extent) {
  if (!end.is_constant()) {
    // extent - 3 and L + 3 mean the same whether or not they would clamp at 0: see below.
    return (end - extent).is_constant() || taken_for_extent(end, step)
               ? std::optional(smaller(end, extent))
               : std::nullopt;
  }
  if (end.constant() >= kToTheEnd) return extent;
  return end.constant() < 0 ? extent + end : smaller(end, extent);
}

// Extent of a slice of a symbolic extent. An end or start beyond the other would give a negative
// extent here and 0 in ONNX: such a run fails when its shapes are bound. Clamping instead would
// hide that ((T-2)+1)/2 of a mask and (T-1)/2 of a convolution are the same length.
std::optional<Dim> symbolic_count(const Dim& start, const Dim& end, int64_t step,
                                  const Dim& extent) {
  if (step < 0) {
    const bool whole = start.is_constant() && end.is_constant() &&
                       (start == Dim(-1) || start.constant() >= kToTheEnd) &&
                       end.constant() <= -kToTheEnd && step > -kToTheEnd;
    return whole ? std::optional(floordiv(extent - step - 1, -step)) : std::nullopt;
  }
  const auto first = symbolic_start(start, extent), last = symbolic_end(end, step, extent);
  if (!first || !last) return std::nullopt;
  const bool tail = start.is_constant() && start.constant() < 0 && *last == extent;
  const Dim length = tail ? smaller(Dim(0) - start, extent) : *last - *first;
  return floordiv(length + step - 1, step);
}

struct Wish {  // of one axis
  std::optional<Dim> start, end;
  std::optional<int64_t> step;
};

std::optional<Dim> sliced_extent(const Wish& wish, const Dim& extent) {
  if (!wish.start || !wish.end || !wish.step) return std::nullopt;
  if (*wish.step == 0) throw GraphError("Slice: a step is 0");
  if (extent.is_constant() && wish.start->is_constant() && wish.end->is_constant()) {
    return Dim(
        clamped(wish.start->constant(), wish.end->constant(), *wish.step, extent.constant()).count);
  }
  if (*wish.step >= kToTheEnd) return std::nullopt;
  return symbolic_count(*wish.start, *wish.end, *wish.step, extent);
}

// Number of axes that a call slices, if any of its lists tells.
std::optional<size_t> slice_count(const Inference& call) {
  for (size_t i = 1; i < call.in.size(); ++i) {
    if (!call.has(i)) continue;
    need_integer("Slice", call, i);
    need_rank("Slice", call, i, 1, 1);
    if (const auto count = call.at(i).type.dims[0].known()) return static_cast<size_t>(*count);
  }
  return std::nullopt;
}

void check_same_count(size_t count, size_t got) {
  if (count != got) {
    throw GraphError("Slice: starts, ends, axes and steps differ in length: ", got, " against ",
                     count);
  }
}

std::vector<int64_t> all_axes(size_t count, int64_t rank) {
  if (count > static_cast<size_t>(rank)) {
    throw GraphError("Slice: ", count, " starts for ", rank, " axes");
  }
  return counted(static_cast<int64_t>(count));
}

std::vector<Wish> wishes_of(const Inference& call, size_t count) {
  std::vector<Wish> wishes(count, {{}, {}, 1});
  const Contents starts = contents_of(call, 1), ends = contents_of(call, 2);
  for (const Contents& c : {starts, ends}) {
    if (c) check_same_count(count, c->size());
  }
  for (size_t i = 0; i < count; ++i) {
    if (starts) wishes[i].start = (*starts)[i];
    if (ends) wishes[i].end = (*ends)[i];
  }
  if (!call.has(4)) return wishes;
  const auto steps = numbers_of(call, 4);
  if (steps) check_same_count(count, steps->size());
  for (size_t i = 0; i < count; ++i) {
    wishes[i].step = steps ? std::optional((*steps)[i]) : std::nullopt;
  }
  return wishes;
}

// Axes in the order given, which is that of starts and ends.
std::optional<std::vector<int64_t>> axes_of(const Inference& call, size_t count) {
  const int64_t rank = call.at(0).type.rank();
  if (!call.has(3)) return all_axes(count, rank);
  auto axes = numbers_of(call, 3);
  if (!axes) return std::nullopt;
  check_same_count(count, axes->size());
  checked_axes(*axes, rank);
  for (int64_t& axis : *axes) axis = checked_axis(axis, rank);
  return axes;
}

Moved sliced(const Shape& shape, const std::vector<int64_t>& axes, auto&& range_of) {
  std::vector<Walk> walks = plain_walks(shape);
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(axes[i]);
    const Kept r = range_of(i, shape[axis]);
    walks[axis].positions = counted(r.count, r.start, r.step);
  }
  return walk(walks);
}

// Contents of a slice, when all of its numbers are known.
Contents sliced_contents(const Inference& call, const std::vector<int64_t>& axes,
                         const std::vector<Wish>& wishes) {
  return take_contents(call, 0, [&](const Shape& shape) {
    return sliced(shape, axes, [&](size_t i, int64_t extent) -> Kept {
      const Wish& w = wishes[i];
      if (!w.start->is_constant() || !w.end->is_constant()) throw GraphError("not constant");
      return clamped(w.start->constant(), w.end->constant(), *w.step, extent);
    });
  });
}

}  // namespace

bool is_open_end(const Dim& end, const TensorType& x, int64_t axis) {
  if (!end.is_constant() || end.constant() < 1) return false;
  constexpr double kMostBytes = 0x1p46;  // 64 TiB, above what machines hold
  double bytes = static_cast<double>(end.constant()) * static_cast<double>(size_of(x.dtype));
  for (int64_t i = 0; i < x.rank(); ++i) {
    const auto extent = x.dims[static_cast<size_t>(i)].known();
    if (i != axis && extent) bytes *= static_cast<double>(*extent);
  }
  return end.constant() >= kToTheEnd || bytes > kMostBytes;
}

void Slice::infer(Inference& call) const {
  const auto& data = call.at(0).type;
  const auto count = slice_count(call);
  const auto axes = count ? axes_of(call, *count) : std::nullopt;
  if (!axes) return set_type(call, 0, data.dtype, fresh_dims(call, 0, data.dims.size()));
  auto wishes = wishes_of(call, *count);
  for (size_t i = 0; i < axes->size(); ++i) {
    if (wishes[i].end && is_open_end(*wishes[i].end, data, (*axes)[i])) {
      wishes[i].end = Dim(INT64_MAX);
    }
  }
  std::vector<Dim> dims = data.dims;
  bool known = true;
  for (size_t i = 0; i < axes->size(); ++i) {
    const auto axis = static_cast<size_t>((*axes)[i]);
    const auto extent = sliced_extent(wishes[i], dims[axis]);
    known = known && extent;
    dims[axis] = extent ? *extent : fresh_dim(call, 0, axis);
  }
  set_type(call, 0, data.dtype, std::move(dims));
  if (known) set_contents(call, 0, sliced_contents(call, *axes, wishes));
}

void Slice::reference(Evaluation& call) const {
  const auto &starts = integers(call, 1), &ends = integers(call, 2);
  const int64_t rank = call.at(0).rank();
  std::vector<int64_t> axes = call.has(3) ? integers(call, 3) : all_axes(starts.size(), rank);
  const std::vector<int64_t> steps =
      call.has(4) ? integers(call, 4) : std::vector<int64_t>(starts.size(), 1);
  for (const size_t got : {ends.size(), axes.size(), steps.size()}) {
    check_same_count(starts.size(), got);
  }
  checked_axes(axes, rank);
  for (int64_t& axis : axes) axis = checked_axis(axis, rank);
  call.out[0] = take(call.at(0), sliced(call.at(0).shape, axes, [&](size_t i, int64_t extent) {
                       return clamped(starts[i], ends[i], steps[i], extent);
                     }));
}
PLANCK_OP(Slice, 13)

namespace {

void check_lists(const Crop& op, int64_t rank) {
  if (op.starts.size() != op.axes.size() || op.ends.size() != op.axes.size() ||
      op.steps.size() != op.axes.size()) {
    throw GraphError("Crop: axes, starts, ends and steps differ in length");
  }
  checked_axes(op.axes, rank);
  for (const int64_t step : op.steps) {
    if (step < 1) throw GraphError("Crop: the step ", step, " is not at least 1");
  }
}

}  // namespace

void Crop::infer(Inference& call) const {
  const auto& data = call.at(0).type;
  check_lists(*this, data.rank());
  std::vector<Dim> dims = data.dims;
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(checked_axis(axes[i], data.rank()));
    if (at_least(ends[i] - dims[axis], 1)) {
      throw GraphError("Crop: the end ", ends[i], " is beyond the extent ", dims[axis]);
    }
    dims[axis] = floordiv(ends[i] - starts[i] + steps[i] - 1, steps[i]);
  }
  set_type(call, 0, data.dtype, std::move(dims));
}

void Crop::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  check_lists(*this, x.rank());
  const Shape from = evaluated(starts, call), to = evaluated(ends, call);
  std::vector<int64_t> at = axes;
  for (int64_t& axis : at) axis = checked_axis(axis, x.rank());
  call.out[0] =
      take(x, sliced(x.shape, at, [&](size_t i, int64_t extent) -> Kept {
             if (from[i] > to[i] || to[i] > extent) {
               throw RunError("Crop: [", from[i], ", ", to[i], ") is outside [0, ", extent, ")");
             }
             return {from[i], steps[i], (to[i] - from[i] + steps[i] - 1) / steps[i]};
           }));
}
PLANCK_OWN_OP(Crop)

}  // namespace planck::ops
