#include "ops/range.h"

#include <algorithm>
#include <optional>

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

int64_t integer_count(int64_t start, int64_t limit, int64_t step) {
  if (step == 0) throw RunError("Range: the step is 0");
  if (step > 0 ? start >= limit : start <= limit) return 0;
  const auto low = static_cast<uint64_t>(step > 0 ? start : limit);
  const auto high = static_cast<uint64_t>(step > 0 ? limit : start);
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  const uint64_t count = (high - low - 1) / stride + 1;
  return count > INT64_MAX ? INT64_MAX : static_cast<int64_t>(count);
}

int64_t real_count(double start, double limit, double step) {
  const double count = std::ceil((limit - start) / step);
  if (step == 0 || std::isnan(count)) {
    throw RunError("Range from ", start, " to ", limit, " by ", step, " has no length");
  }
  return to_integer(std::max(count, 0.0));
}

// Length from symbolic ends; nothing for steps other than numbers.
std::optional<Dim> symbolic_count(const Dim& start, const Dim& limit, const Dim& step) {
  if (!step.is_constant()) return std::nullopt;
  const int64_t by = step.constant();
  if (start.is_constant() && limit.is_constant()) {
    return Dim(integer_count(start.constant(), limit.constant(), by));
  }
  if (by == 0) throw GraphError("Range: the step is 0");
  if (by < -INT32_MAX || by > INT32_MAX) return std::nullopt;
  const Dim length = by > 0 ? limit - start : start - limit;
  const int64_t stride = by > 0 ? by : -by;
  return larger(floordiv(length + stride - 1, stride), 0);
}

Contents range_contents(const Dim& start, const Dim& step, const Dim& count) {
  const auto known = count.known();
  if (!known || *known > kMostContents) return std::nullopt;
  std::vector<Dim> out;
  for (int64_t i = 0; i < *known; ++i) out.push_back(start + Dim(i) * step);
  return out;
}

// The length of a Range of floats whose inputs are constants.
std::optional<Dim> constant_count(const Inference& call) {
  double v[3] = {};
  for (size_t i = 0; i < 3; ++i) {
    const auto& constant = call.at(i).constant;
    if (constant == nullptr || constant->count() != 1) return std::nullopt;
    v[i] = real_at(widen(*constant), 0);
  }
  return Dim(real_count(v[0], v[1], v[2]));
}

}  // namespace

void Range::infer(Inference& call) const {
  need_number(kName, call, 0);
  for (size_t i = 0; i < 3; ++i) {
    need_rank(kName, call, i, 0, 1);  // exporters write [1] for scalars
    need_same_type(kName, call, 0, i);
  }
  const DType dtype = call.at(0).type.dtype;
  const Contents start = contents_of(call, 0), limit = contents_of(call, 1),
                 step = contents_of(call, 2);
  const bool scalars =
      start && limit && step && start->size() == 1 && limit->size() == 1 && step->size() == 1;
  const auto count = scalars ? symbolic_count((*start)[0], (*limit)[0], (*step)[0])
                             : (is_float(dtype) ? constant_count(call) : std::nullopt);
  set_type(call, 0, dtype, {count ? *count : fresh_dim(call, 0, 0)});
  if (scalars && count) {
    set_contents(call, 0,
                 contents_if([&] { return range_contents((*start)[0], (*step)[0], *count); }));
  }
}

void Range::reference(Evaluation& call) const {
  for (size_t i = 0; i < 3; ++i) {
    if (call.at(i).count() != 1) throw RunError("Range: input ", i, " is not a scalar");
  }
  const DType dtype = call.at(0).dtype;
  if (!is_float(dtype)) {
    const int64_t start = integer("start", call, 0), step = integer("step", call, 2);
    Wide out = make_wide(dtype, {integer_count(start, integer("limit", call, 1), step)});
    int64_t next = start;
    for (int64_t& y : out.integer) {
      y = next;
      next = wrapping_add(next, step);
    }
    call.out[0] = std::move(out);
    return;
  }
  const double start = call.at(0).at(0), step = call.at(2).at(0);
  Wide out = make_wide(dtype, {real_count(start, call.at(1).at(0), step)});
  for (size_t i = 0; i < out.real.size(); ++i) out.real[i] = start + static_cast<double>(i) * step;
  call.out[0] = std::move(out);
}
PLANCK_OP(Range, 11)

void Count::infer(Inference& call) const {
  set_type(call, 0, dtype_attribute(kName, "dtype", dtype), {count});
  set_contents(call, 0, contents_if([&] { return range_contents(start, step, count); }));
}

void Count::reference(Evaluation& call) const {
  const int64_t first = start.eval(*call.bindings), by = step.eval(*call.bindings);
  Wide out = make_wide(dtype_attribute(kName, "dtype", dtype), {count.eval(*call.bindings)});
  for (size_t i = 0; i < out.integer.size(); ++i) {
    out.integer[i] = wrapping_add(first, wrapping_mul(static_cast<int64_t>(i), by));
  }
  call.out[0] = std::move(out);
}
PLANCK_OWN_OP(Count)

}  // namespace planck::ops
