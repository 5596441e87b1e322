#include "ops/pool.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "ops/elementwise.h"

namespace planck::ops {

namespace {

void infer_pool(std::string_view op, Inference& call, const Windowed& w, bool ceil_mode) {
  need_rank(op, call, 0, 3);
  const TensorType& x = call.at(0).type;
  if (w.kernel_shape.size() + 2 != x.dims.size()) {
    throw GraphError(op, ": a kernel of ", w.kernel_shape.size(), " axes for ", x);
  }
  std::vector<Dim> dims(x.dims.begin(), x.dims.begin() + 2);
  const auto axes = window_axes(op, w, w.kernel_shape);
  for (Dim& d : window_counts(w, axes, std::span(x.dims).subspan(2), ceil_mode)) {
    dims.push_back(std::move(d));
  }
  set_type(call, 0, x.dtype, std::move(dims));
}

Windows windows_of(std::string_view op, const Wide& x, const Windowed& w, bool ceil_mode) {
  return {w, window_axes(op, w, w.kernel_shape), Shape(x.shape.begin() + 2, x.shape.end()),
          ceil_mode};
}

Wide make_output(const Wide& x, const Windows& windows) {
  Shape shape(x.shape.begin(), x.shape.begin() + 2);
  shape.insert(shape.end(), windows.out().begin(), windows.out().end());
  return make_wide(x.dtype, std::move(shape));
}

// Calls f(plane's first element, window, index of the result).
void for_each_window(const Wide& x, const Windows& windows, auto&& f) {
  const int64_t plane = checked_count(windows.in()), planes = x.shape[0] * x.shape[1];
  for (int64_t p = 0; p < planes; ++p) {
    for (int64_t w = 0; w < windows.count(); ++w) {
      f(p * plane, w, static_cast<size_t>(p * windows.count() + w));
    }
  }
}

// The same element, counted with the first spatial axis as the fastest.
int64_t column_major(int64_t at, const Shape& in) {
  int64_t out = 0;
  Shape place(in.size());
  for (size_t i = in.size(); i-- > 0; at /= in[i]) place[i] = at % in[i];
  for (size_t i = in.size(); i-- > 0;) out = out * in[i] + place[i];
  return out;
}

}  // namespace

void MaxPool::infer(Inference& call) const {
  need_number(kName, call, 0);
  infer_pool(kName, call, *this, ceil_mode != 0);
  if (call.out.size() > 1) set_type(call, 1, DType::s64, call.out[0].type.dims);
}

void MaxPool::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const Windows windows = windows_of(kName, x, *this, ceil_mode != 0);
  Wide out = make_output(x, windows), where = make_wide(DType::s64, out.shape);
  const bool floating = x.floating();
  for_each_window(x, windows, [&](int64_t plane, int64_t w, size_t to) {
    int64_t best = -1;
    for (int64_t t = 0; t < windows.taps(); ++t) {
      const int64_t at = windows.source(w, t);
      if (at < 0) continue;
      if (best < 0 || x.at(plane + at) > x.at(plane + best) || std::isnan(x.at(plane + at)))
        best = at;
    }
    if (best < 0) {  // nothing but padding
      if (floating) out.real[to] = -std::numeric_limits<double>::infinity();
      return;
    }
    const auto from = static_cast<size_t>(plane + best);
    if (floating) {
      out.real[to] = x.real[from];
    } else {
      out.integer[to] = x.integer[from];
    }
    where.integer[to] = plane + (storage_order == 0 ? best : column_major(best, windows.in()));
  });
  call.out[0] = std::move(out);
  if (call.out.size() > 1) call.out[1] = std::move(where);
}
PLANCK_OP(MaxPool, 22)

void AveragePool::infer(Inference& call) const {
  need_float(kName, call, 0);
  infer_pool(kName, call, *this, ceil_mode != 0);
}

void AveragePool::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const Windows windows = windows_of(kName, x, *this, ceil_mode != 0);
  Wide out = make_output(x, windows);
  for_each_window(x, windows, [&](int64_t plane, int64_t w, size_t to) {
    double sum = 0;
    int64_t count = 0;
    for (int64_t t = 0; t < windows.taps(); ++t) {
      const int64_t at = windows.source(w, t);
      if (at >= 0) sum += x.real[static_cast<size_t>(plane + at)];
      count += at >= 0 || (at == -1 && count_include_pad != 0) ? 1 : 0;
    }
    out.real[to] = sum / static_cast<double>(count);
  });
  call.out[0] = std::move(out);
}
PLANCK_OP(AveragePool, 22)

void LpPool::infer(Inference& call) const {
  need_float(kName, call, 0);
  if (p < 1) throw GraphError("LpPool: p is ", p);
  infer_pool(kName, call, *this, ceil_mode != 0);
}

void LpPool::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const Windows windows = windows_of(kName, x, *this, ceil_mode != 0);
  Wide out = make_output(x, windows);
  const auto power = static_cast<double>(p);
  for_each_window(x, windows, [&](int64_t plane, int64_t w, size_t to) {
    double sum = 0;
    for (int64_t t = 0; t < windows.taps(); ++t) {
      const int64_t at = windows.source(w, t);
      if (at >= 0) sum += std::pow(std::abs(x.real[static_cast<size_t>(plane + at)]), power);
    }
    out.real[to] = std::pow(sum, 1 / power);
  });
  call.out[0] = std::move(out);
}
PLANCK_OP(LpPool, 22)

void LRN::infer(Inference& call) const {
  need_float(kName, call, 0);
  need_rank(kName, call, 0, 2);
  if (size < 1) throw GraphError("LRN: size is ", size);
  set_type(call, 0, call.at(0).type.dtype, call.at(0).type.dims);
}

void LRN::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  Wide out = make_wide(x.dtype, x.shape);
  const int64_t before = (size - 1) / 2, after = size - 1 - before;
  for (const Lane& lane : lanes(x.shape, 1)) {
    const auto value = [&](int64_t c) { return x.real[static_cast<size_t>(lane.at(c))]; };
    for (int64_t c = 0; c < lane.count; ++c) {
      check_guard();
      double sum = 0;
      const int64_t last = std::min(lane.count - 1, c + after);
      for (int64_t i = std::max<int64_t>(0, c - before); i <= last; ++i) sum += value(i) * value(i);
      out.real[static_cast<size_t>(lane.at(c))] =
          value(c) / std::pow(bias + alpha / static_cast<double>(size) * sum, beta);
    }
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(LRN, 13)

}  // namespace planck::ops
