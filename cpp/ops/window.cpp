#include "ops/window.h"

#include "base/checked.h"

namespace planck {

namespace {

bool is_same(const Windowed& w) { return w.auto_pad == "SAME_UPPER" || w.auto_pad == "SAME_LOWER"; }

int64_t checked_number(std::string_view op, int64_t value, int64_t low) {
  if (value < low || value > INT32_MAX) {
    throw GraphError(op, ": ", value, " among kernel, strides, dilations or pads");
  }
  return value;
}

void need_length(std::string_view op, const std::vector<int64_t>& list, size_t length) {
  if (list.empty() || list.size() == length) return;
  throw GraphError(op, ": a list of ", list.size(), " numbers where ", length, " are expected");
}

// Padding that makes as many windows as strides fit into the axis.
void pad_same(WindowAxis& axis, int64_t in, bool upper) {
  const int64_t count = ceil_div(in, axis.stride);
  const int64_t total = std::max<int64_t>((count - 1) * axis.stride + axis.reach() - in, 0);
  axis.begin = upper ? total / 2 : total - total / 2;
  axis.end = total - axis.begin;
}

}  // namespace

std::vector<WindowAxis> window_axes(std::string_view op, const Windowed& w,
                                    std::span<const int64_t> kernel) {
  const size_t rank = kernel.size();
  need_length(op, w.dilations, rank);
  need_length(op, w.strides, rank);
  need_length(op, w.pads, 2 * rank);
  std::vector<WindowAxis> out(rank);
  for (size_t i = 0; i < rank; ++i) {
    out[i].kernel = checked_number(op, kernel[i], 1);
    if (!w.strides.empty()) out[i].stride = checked_number(op, w.strides[i], 1);
    if (!w.dilations.empty()) out[i].dilation = checked_number(op, w.dilations[i], 1);
    if (w.pads.empty() || w.auto_pad != "NOTSET") continue;
    out[i].begin = checked_number(op, w.pads[i], 0);
    out[i].end = checked_number(op, w.pads[rank + i], 0);
  }
  return out;
}

std::vector<Dim> window_counts(const Windowed& w, const std::vector<WindowAxis>& axes,
                               std::span<const Dim> in, bool ceil_mode) {
  if (w.auto_pad != "NOTSET" && w.auto_pad != "VALID" && !is_same(w)) {
    throw GraphError("auto_pad '", w.auto_pad, "' is unknown");
  }
  std::vector<Dim> out;
  for (size_t i = 0; i < axes.size(); ++i) {
    const WindowAxis& a = axes[i];
    const Dim& extent = in[i];
    if (is_same(w)) {
      out.push_back(floordiv(extent + Dim(a.stride - 1), Dim(a.stride)));
      continue;
    }
    const Dim room = extent + Dim(a.begin + a.end - a.reach());
    Dim count = floordiv(room + Dim(ceil_mode ? a.stride - 1 : 0), Dim(a.stride)) + Dim(1);
    if (ceil_mode) {
      // The last window must start inside the axis or the padding in front of it, which one that
      // reaches over the padding behind by a stride always does.
      const Dim begun = floordiv(extent + Dim(a.begin - 1), Dim(a.stride)) + Dim(1);
      if (a.reach() < a.end + a.stride) count = smaller(count, begun);
    }
    out.push_back(count);
  }
  return out;
}

Windows::Windows(const Windowed& w, std::vector<WindowAxis> axes, Shape in, bool ceil_mode)
    : axes_(std::move(axes)), in_(std::move(in)) {
  const std::vector<Dim> extents(in_.begin(), in_.end());
  for (const Dim& d : window_counts(w, axes_, extents, ceil_mode)) out_.push_back(*d.known());
  for (size_t i = 0; i < axes_.size(); ++i) {
    if (is_same(w)) pad_same(axes_[i], in_[i], w.auto_pad == "SAME_UPPER");
    if (out_[i] < 0)
      throw RunError("a window of ", axes_[i].reach(), " over ", in_[i], " elements");
    kernel_.push_back(axes_[i].kernel);
  }
  count_ = checked_count(out_);
  taps_ = checked_count(kernel_);
}

int64_t Windows::source(int64_t window, int64_t tap) const {
  check_guard_at(static_cast<size_t>(tap));
  int64_t at = 0, stride = 1;
  bool padded = false, beyond = false;
  for (size_t i = axes_.size(); i-- > 0;) {
    const WindowAxis& a = axes_[i];
    const int64_t place = window % out_[i] * a.stride - a.begin + tap % kernel_[i] * a.dilation;
    window /= out_[i];
    tap /= kernel_[i];
    beyond = beyond || place >= in_[i] + a.end;
    padded = padded || place < 0 || place >= in_[i];
    at += place * stride;
    stride *= in_[i];
  }
  return beyond ? -2 : padded ? -1 : at;
}

}  // namespace planck
