// Convolutions as products: the places that windows read become the columns of a matrix, in blocks.
#include "ops/conv.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "ops/activation.h"
#include "ops/elementwise.h"
#include "ops/product.h"

namespace planck::ops {

namespace {

std::vector<int64_t> kernel_of(std::string_view op, const Inference& call, const Windowed& w,
                               size_t weights) {
  const TensorType& type = call.at(weights).type;
  std::vector<int64_t> kernel;
  for (size_t i = 2; i < type.dims.size(); ++i) {
    const auto known = type.dims[i].known();
    const bool given = i - 2 < w.kernel_shape.size();
    if (!known && !given) throw UnsupportedError(op, ": the kernel ", type, " is not known");
    kernel.push_back(known ? *known : w.kernel_shape[i - 2]);
    if (given && w.kernel_shape[i - 2] != kernel.back()) {
      throw GraphError(op, ": kernel_shape differs from ", type);
    }
  }
  return kernel;
}

void need_operands(std::string_view op, const Inference& call, size_t weights, int64_t group) {
  need_rank(op, call, 0, 3);
  const int64_t rank = call.at(0).type.rank();
  need_rank(op, call, weights, rank, rank);
  if (group < 1) throw GraphError(op, ": group is ", group);
}

void infer_conv(std::string_view op, Inference& call, const Windowed& w, int64_t group,
                size_t weights, DType dtype) {
  need_operands(op, call, weights, group);
  const TensorType &x = call.at(0).type, &k = call.at(weights).type;
  const Dim channels = k.dims[1] * Dim(group);
  if (x.dims[1].known() && channels.known() && x.dims[1] != channels) {
    throw GraphError(op, ": ", k, " in ", group, " groups does not fit ", x);
  }
  std::vector<Dim> dims{x.dims[0], k.dims[0]};
  const auto axes = window_axes(op, w, kernel_of(op, call, w, weights));
  for (Dim& d : window_counts(w, axes, std::span(x.dims).subspan(2))) dims.push_back(std::move(d));
  set_type(call, 0, dtype, std::move(dims));
}

struct Sizes {
  int64_t batch, groups, in, out;  // channels of one group
};

Sizes sizes_of(std::string_view op, const Wide& x, const Wide& w, int64_t group) {
  const Sizes s{x.shape[0], group, w.shape[1], w.shape[0] / group};
  if (s.in * group != x.shape[1] || s.out * group != w.shape[0]) {
    throw RunError(op, ": ", shape_text(w.shape), " in ", group, " groups for ",
                   shape_text(x.shape));
  }
  return s;
}

// Columns [channels * taps, windows from `first` on] of one group of one sample.
void gather(const double* x, const Windows& windows, int64_t channels, int64_t first, int64_t count,
            std::vector<double>& columns) {
  const int64_t plane = checked_count(windows.in());
  columns.resize(static_cast<size_t>(channels * windows.taps() * count));
  for (int64_t t = 0; t < windows.taps(); ++t) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = windows.source(first + i, t);
      for (int64_t c = 0; c < channels; ++c) {
        columns[static_cast<size_t>((c * windows.taps() + t) * count + i)] =
            at < 0 ? 0 : x[c * plane + at];
      }
    }
  }
}

Shape kernel_extents(const Wide& w) { return {w.shape.begin() + 2, w.shape.end()}; }

// In double: integers of 8 bits stay exact.
Wide convolved(std::string_view op, const Wide& x, const Wide& w, const Windowed& attrs,
               int64_t group) {
  const Sizes s = sizes_of(op, x, w, group);
  const Windows windows(attrs, window_axes(op, attrs, kernel_extents(w)),
                        Shape(x.shape.begin() + 2, x.shape.end()));
  Shape shape{s.batch, s.out * group};
  shape.insert(shape.end(), windows.out().begin(), windows.out().end());
  Wide out = make_wide(x.dtype, std::move(shape));
  const int64_t plane = checked_count(windows.in()), depth = s.in * windows.taps();
  // Windows at once; few where each is large, so that their columns stay small.
  const int64_t most =
      std::clamp<int64_t>((int64_t{1} << 22) / std::max<int64_t>(depth, 1), 1, 2048);
  std::vector<double> columns, block;
  for (int64_t g = 0; g < s.batch * group; ++g) {
    const double* weights = w.real.data() + g % group * s.out * depth;
    double* to = out.real.data() + g * s.out * windows.count();
    for (int64_t first = 0; first < windows.count(); first += most) {
      const int64_t count = std::min(most, windows.count() - first);
      gather(x.real.data() + g * s.in * plane, windows, s.in, first, count, columns);
      block.assign(static_cast<size_t>(s.out * count), 0);
      product(weights, columns.data(), block.data(), {s.out, count, depth});
      for (int64_t m = 0; m < s.out; ++m) {
        std::copy_n(block.data() + m * count, count, to + m * windows.count() + first);
      }
    }
  }
  return out;
}

void add_bias(Wide& y, const Wide& bias) {
  if (y.count() == 0) return;
  const int64_t channels = y.shape[1], plane = y.count() / (y.shape[0] * channels);
  if (bias.count() != channels) throw RunError("a bias of ", bias.count(), " for ", channels);
  for (int64_t i = 0; i < y.count(); ++i) {
    y.real[static_cast<size_t>(i)] += bias.at(i / plane % channels);
  }
}

// x less its zero point, as real numbers; zero points of weights go along axis 0.
Wide real_less_zero(const Wide& x, const Wide* zero) {
  Wide out = make_wide(DType::f64, x.shape);
  const int64_t inner = x.shape[0] == 0 ? 1 : x.count() / x.shape[0];
  if (zero != nullptr && zero->count() != 1 && zero->count() != x.shape[0]) {
    throw RunError(zero->count(), " zero points for ", shape_text(x.shape));
  }
  for (int64_t i = 0; i < x.count(); ++i) {
    const double z = zero == nullptr ? 0 : zero->at(zero->count() == 1 ? 0 : i / inner);
    out.real[static_cast<size_t>(i)] = x.at(i) - z;
  }
  return out;
}

void need_bytes(std::string_view op, const Inference& call, size_t i) {
  need_integer(op, call, i);
  if (size_of(call.at(i).type.dtype) > 1) throw GraphError(op, ": input ", i, " is wide");
}

}  // namespace

void Conv::infer(Inference& call) const {
  need_float(kName, call, 0);
  need_same_type(kName, call, 0, 1);
  if (call.has(2)) need_same_type(kName, call, 0, 2);
  infer_conv(kName, call, *this, group, 1, call.at(0).type.dtype);
}

void Conv::reference(Evaluation& call) const {
  Wide y = convolved(kName, call.at(0), call.at(1), *this, group);
  if (call.has(2)) add_bias(y, call.at(2));
  call.out[0] = std::move(y);
}
PLANCK_OP(Conv, 22)

void Convolution::infer(Inference& call) const {
  activation_named(activation);
  need_float(kName, call, 0);
  for (const size_t i : {1, 2, 3}) {
    if (call.has(i)) need_same_type(kName, call, 0, i);
  }
  infer_conv(kName, call, *this, group, 1, call.at(0).type.dtype);
}

void Convolution::reference(Evaluation& call) const {
  Wide y = convolved(kName, call.at(0), call.at(1), *this, group);
  if (call.has(2)) add_bias(y, call.at(2));
  if (call.has(3)) {
    if (call.at(3).shape != y.shape) throw RunError("Convolution: a residual of another shape");
    y = zip(y, call.at(3), y.dtype, [](auto a, auto b) { return a + b; });
  }
  const Activation f = activation_named(activation);
  for (double& v : y.real) v = f(v);
  call.out[0] = std::move(y);
}
PLANCK_OWN_OP(Convolution)

void ConvInteger::infer(Inference& call) const {
  for (const size_t i : {0, 1}) {
    need_bytes(kName, call, i);
    if (call.has(i + 2)) need_same_type(kName, call, i, i + 2);
  }
  infer_conv(kName, call, *this, group, 1, DType::s32);
}

void ConvInteger::reference(Evaluation& call) const {
  const auto zero = [&](size_t i) { return call.has(i) ? &call.at(i) : nullptr; };
  const Wide y = convolved(kName, real_less_zero(call.at(0), zero(2)),
                           real_less_zero(call.at(1), zero(3)), *this, group);
  call.out[0] = map(y, DType::s32, [](auto v) { return to_integer(static_cast<double>(v)); });
}
PLANCK_OP(ConvInteger, 10)

void QLinearConv::infer(Inference& call) const {
  for (const size_t i : {0, 3, 7}) need_bytes(kName, call, i);
  for (const size_t i : {1, 4, 6}) need_float(kName, call, i);
  need_same_type(kName, call, 0, 2);
  need_same_type(kName, call, 3, 5);
  if (call.has(8)) need_integer(kName, call, 8);
  infer_conv(kName, call, *this, group, 3, call.at(7).type.dtype);
}

void QLinearConv::reference(Evaluation& call) const {
  Wide y = convolved(kName, real_less_zero(call.at(0), &call.at(2)),
                     real_less_zero(call.at(3), &call.at(5)), *this, group);
  if (call.has(8)) add_bias(y, call.at(8));
  const Wide& scales = call.at(4);
  const int64_t channels = y.shape[1];
  if (scales.count() != 1 && scales.count() != channels) {
    throw RunError("QLinearConv: ", scales.count(), " scales for ", channels, " channels");
  }
  const DType type = call.at(7).dtype;
  for (const size_t i : {1, 6, 7}) {
    if (call.at(i).count() != 1) throw RunError("QLinearConv: input ", i, " is not one number");
  }
  const double base = call.at(1).at(0) / call.at(6).at(0);
  const bool is_unsigned = dtype_name(type)[0] == 'u';
  const double low = is_unsigned ? 0 : -128, high = is_unsigned ? 255 : 127;
  Wide out = make_wide(type, y.shape);
  const int64_t plane = y.count() == 0 ? 1 : y.count() / (y.shape[0] * channels);
  for (int64_t i = 0; i < y.count(); ++i) {
    const double scale = scales.at(scales.count() == 1 ? 0 : i / plane % channels) * base;
    const double v = std::nearbyint(y.real[static_cast<size_t>(i)] * scale) + call.at(7).at(0);
    out.integer[static_cast<size_t>(i)] = to_integer(std::clamp(v, low, high));
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(QLinearConv, 10)

std::vector<GrownAxis> grown_axes(const ConvTranspose& op, const std::vector<WindowAxis>& axes,
                                  std::span<const Dim> in) {
  const size_t rank = axes.size();
  const bool shaped = !op.output_shape.empty(), same = op.auto_pad.starts_with("SAME");
  constexpr std::string_view kPads[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"};
  if (std::ranges::find(kPads, op.auto_pad) == std::end(kPads)) {
    throw GraphError("ConvTranspose: auto_pad '", op.auto_pad, "' is unknown");
  }
  if ((shaped && op.output_shape.size() != rank) ||
      (!op.output_padding.empty() && op.output_padding.size() != rank)) {
    throw GraphError("ConvTranspose: output_shape or output_padding for another rank");
  }
  std::vector<GrownAxis> out;
  for (size_t i = 0; i < rank; ++i) {
    const WindowAxis& a = axes[i];
    const int64_t more = op.output_padding.empty() ? 0 : op.output_padding[i];
    const Dim full = (in[i] - Dim(1)) * Dim(a.stride) + Dim(a.reach()) + Dim(more);
    if (!shaped && !same) {
      out.push_back({full - Dim(a.begin + a.end), a.begin});
      continue;
    }
    const Dim want = shaped ? Dim(op.output_shape[i]) : in[i] * Dim(a.stride);
    const auto cut = (full - want).known();
    if (!cut) throw UnsupportedError("ConvTranspose: the padding of ", in[i], " is not known");
    const int64_t total = std::max<int64_t>(*cut, 0);
    out.push_back({want, op.auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2});
  }
  return out;
}

void ConvTranspose::infer(Inference& call) const {
  need_float(kName, call, 0);
  need_same_type(kName, call, 0, 1);
  need_operands(kName, call, 1, group);
  const TensorType &x = call.at(0).type, &w = call.at(1).type;
  std::vector<Dim> dims{x.dims[0], w.dims[1] * Dim(group)};
  const auto axes = window_axes(kName, *this, kernel_of(kName, call, *this, 1));
  for (const GrownAxis& g : grown_axes(*this, axes, std::span(x.dims).subspan(2)))
    dims.push_back(g.out);
  set_type(call, 0, x.dtype, std::move(dims));
}

namespace {

// Where each tap of each input element lands in the result.
struct Spread {
  std::vector<WindowAxis> axes;
  std::vector<int64_t> cut;
  Shape in, kernel, out;

  int64_t target(int64_t place, int64_t tap) const {  // -1: cut off
    int64_t at = 0, stride = 1;
    for (size_t i = axes.size(); i-- > 0;) {
      const int64_t p =
          place % in[i] * axes[i].stride + tap % kernel[i] * axes[i].dilation - cut[i];
      place /= in[i];
      tap /= kernel[i];
      if (p < 0 || p >= out[i]) return -1;
      at += p * stride;
      stride *= out[i];
    }
    return at;
  }
};

// One group of one sample: y [M, out] += w [C, M, taps] spread by x [C, in].
void spread(const double* x, const double* w, double* y, int64_t channels, int64_t out_channels,
            const Spread& s) {
  const int64_t from = checked_count(s.in), to = checked_count(s.out),
                taps = checked_count(s.kernel);
  for (int64_t place = 0; place < from; ++place) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t at = s.target(place, tap);
      check_guard_at(static_cast<size_t>(tap));
      if (at < 0) continue;
      for (int64_t c = 0; c < channels; ++c) {
        const double v = x[c * from + place];
        const double* row = w + c * out_channels * taps + tap;
        for (int64_t m = 0; m < out_channels; ++m) y[m * to + at] += v * row[m * taps];
      }
    }
  }
}

}  // namespace

void ConvTranspose::reference(Evaluation& call) const {
  const Wide &x = call.at(0), &w = call.at(1);
  if (w.shape[0] != x.shape[1] || x.shape[1] % group != 0) {
    throw RunError("ConvTranspose: weights ", shape_text(w.shape), " for ", shape_text(x.shape));
  }
  Spread s{window_axes(kName, *this, kernel_extents(w)),
           {},
           {x.shape.begin() + 2, x.shape.end()},
           kernel_extents(w),
           {}};
  const std::vector<Dim> extents(s.in.begin(), s.in.end());
  Shape shape{x.shape[0], w.shape[1] * group};
  for (const GrownAxis& g : grown_axes(*this, s.axes, extents)) {
    s.out.push_back(*g.out.known());
    s.cut.push_back(g.begin);
    shape.push_back(s.out.back());
  }
  Wide y = make_wide(x.dtype, std::move(shape));
  const int64_t channels = x.shape[1] / group, out_channels = w.shape[1];
  const int64_t from = checked_count(s.in), to = checked_count(s.out);
  const int64_t weights = channels * out_channels * checked_count(s.kernel);
  for (int64_t n = 0; n < x.shape[0] * group; ++n) {
    spread(x.real.data() + n * channels * from, w.real.data() + n % group * weights,
           y.real.data() + n * out_channels * to, channels, out_channels, s);
  }
  if (call.has(2)) add_bias(y, call.at(2));
  call.out[0] = std::move(y);
}
PLANCK_OP(ConvTranspose, 22)

std::string why_no_phases(const ConvTranspose& conv, const Shape& weights) {
  if (conv.group != 1) return cat("it has ", conv.group, " groups");
  if (weights.size() < 3 || weights.size() > 4) {
    return "only windows over one or two axes have kernels";
  }
  return "";
}

}  // namespace planck::ops
