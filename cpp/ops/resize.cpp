// Coordinates and weights: https://onnx.ai/onnx/operators/onnx__Resize.html
#include "ops/resize.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "base/checked.h"
#include "ops/support.h"

namespace planck::ops {

namespace {

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::ranges::find(names, name) != names.end();
}

void check_names(const Resize& op) {
  const auto expect = [](std::string_view what, std::string_view got,
                         std::initializer_list<std::string_view> names) {
    if (!is_one_of(got, names)) {
      throw GraphError("Resize: ", what, " '", got, "', expected ",
                       joined(std::vector<std::string_view>(names)));
    }
  };
  expect("mode", op.mode, {"nearest", "linear", "cubic"});
  expect("nearest_mode", op.nearest_mode,
         {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"});
  expect("coordinate_transformation_mode", op.coordinate_transformation_mode,
         {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
          "tf_crop_and_resize", "tf_half_pixel_for_nn"});
  expect("keep_aspect_ratio_policy", op.keep_aspect_ratio_policy,
         {"stretch", "not_larger", "not_smaller"});
}

std::vector<int64_t> resized_axes(const Resize& op, int64_t rank) {
  if (op.axes.empty()) return counted(rank);
  std::vector<int64_t> axes = op.axes;
  checked_axes(axes, rank);
  for (int64_t& axis : axes) axis = checked_axis(axis, rank);
  return axes;
}

void need_count(std::string_view what, size_t got, size_t axes) {
  if (got != axes) throw GraphError("Resize: ", got, ' ', what, " for ", axes, " axes");
}

double checked_scale(double scale) {
  if (!(scale > 0) || scale > 0x1p31) throw GraphError("Resize: the scale ", scale);
  return scale;
}

// floor(extent * scale), exactly: a scale is a whole number of 2^-bits.
std::optional<Dim> scaled_extent(const Dim& extent, double scale) {
  constexpr int kMostBits = 30;
  int bits = 0;
  for (; bits <= kMostBits; ++bits) {
    const double whole = std::ldexp(scale, bits);
    if (whole == std::floor(whole)) break;
  }
  if (const auto known = extent.known()) {
    const double out = std::floor(static_cast<double>(*known) * scale);
    if (out > 0x1p40) throw GraphError("Resize: the extent ", *known, " times ", scale);
    return Dim(static_cast<int64_t>(out));
  }
  if (bits > kMostBits) return std::nullopt;
  return floordiv(extent * Dim(static_cast<int64_t>(std::ldexp(scale, bits))),
                  Dim(int64_t{1} << bits));
}

// The one scale of all axes that keeps the picture's proportions.
double common_scale(const Resize& op, std::span<const ResizedAxis> axes) {
  const auto by_scale = [](const ResizedAxis& a, const ResizedAxis& b) {
    return a.scale < b.scale;
  };
  return op.keep_aspect_ratio_policy == "not_larger"
             ? std::ranges::min_element(axes, by_scale)->scale
             : std::ranges::max_element(axes, by_scale)->scale;
}

// Sets extents and scales of the resized axes from the sizes that the model asks for.
void resize_to(const Resize& op, std::span<ResizedAxis> axes, std::span<const int64_t> sizes) {
  for (size_t i = 0; i < axes.size(); ++i) {
    if (sizes[i] < 0) throw GraphError("Resize: the size ", sizes[i]);
    axes[i].out = sizes[i];
    if (axes[i].in == 0) continue;
    axes[i].scale = static_cast<double>(sizes[i]) / static_cast<double>(axes[i].in);
  }
  if (op.keep_aspect_ratio_policy == "stretch" || axes.empty()) return;
  const double scale = common_scale(op, axes);
  for (ResizedAxis& axis : axes) {
    axis.scale = scale;
    axis.out = static_cast<int64_t>(scale * static_cast<double>(axis.in) + 0.5);
  }
}

// Where the output place lies in x. Nothing: outside of what tf_crop_and_resize reads.
std::optional<double> coordinate(const Resize& op, const ResizedAxis& a, int64_t place) {
  const std::string_view mode = op.coordinate_transformation_mode;
  const auto x = static_cast<double>(place), in = static_cast<double>(a.in);
  const double out = a.scale * in;  // before it was made whole
  if (mode == "asymmetric") return x / a.scale;
  if (mode == "align_corners") return out == 1 ? 0 : x * (in - 1) / (out - 1);
  if (mode == "tf_half_pixel_for_nn") return (x + 0.5) / a.scale;
  if (mode == "tf_crop_and_resize") {
    const double extent = a.roi_end - a.roi_begin;
    const double at = a.roi_begin * (in - 1) +
                      (out == 1 ? extent * (in - 1) / 2 : x * extent * (in - 1) / (out - 1));
    return at >= 0 && at <= in - 1 ? std::optional(at) : std::nullopt;
  }
  const double at = (x + 0.5) / a.scale - 0.5;
  if (mode == "pytorch_half_pixel") return out == 1 ? -0.5 : at;
  if (mode == "half_pixel_symmetric") return in / 2 * (1 - static_cast<double>(a.out) / out) + at;
  return at;
}

int64_t nearest(const Resize& op, double at) {
  const double low = std::floor(at), past = at - low;
  if (op.nearest_mode == "floor") return static_cast<int64_t>(low);
  if (op.nearest_mode == "ceil") return static_cast<int64_t>(std::ceil(at));
  const bool up = op.nearest_mode == "round_prefer_floor" ? past > 0.5 : past >= 0.5;
  return static_cast<int64_t>(up ? low + 1 : low);
}

double cubic(double distance, double a) {
  const double x = std::abs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// The places that an output place reads, from `first` on, and their weights.
struct Taps {
  int64_t first = 0;
  std::vector<double> weights;
};

Taps taps_at(const Resize& op, const ResizedAxis& axis, double at) {
  // When a picture shrinks, antialias widens the filter so that nothing is left out.
  const double stretch = op.antialias != 0 ? std::min(axis.scale, 1.0) : 1.0;
  const bool linear = op.mode == "linear";
  const auto half = static_cast<int64_t>(-std::floor(-(linear ? 1 : 2) / stretch));
  Taps taps{static_cast<int64_t>(std::ceil(at)) - half, {}};
  double sum = 0;
  for (int64_t i = 0; i < 2 * half; ++i) {
    const int64_t place = taps.first + i;
    const double distance = (static_cast<double>(place) - at) * stretch;
    const bool left_out = op.exclude_outside != 0 && (place < 0 || place >= axis.in);
    const double weight =
        linear ? std::max(1 - std::abs(distance), 0.0) : cubic(distance, op.cubic_coeff_a);
    taps.weights.push_back(left_out ? 0 : weight);
    sum += taps.weights.back();
  }
  if (op.antialias != 0 || op.exclude_outside != 0) {
    for (double& weight : taps.weights) weight /= sum;
  }
  return taps;
}

// Resizes one axis; places outside count as the nearest one inside.
Wide interpolated(const Resize& op, const Wide& x, size_t at, const ResizedAxis& axis) {
  Shape shape = x.shape;
  shape[at] = axis.out;
  Wide out = make_wide(x.dtype, std::move(shape));
  std::vector<std::optional<Taps>> taps;
  for (int64_t i = 0; i < axis.out; ++i) {
    const auto place = coordinate(op, axis, i);
    taps.push_back(place ? std::optional(taps_at(op, axis, *place)) : std::nullopt);
  }
  const auto from = lanes(x.shape, static_cast<int64_t>(at));
  const auto to = lanes(out.shape, static_cast<int64_t>(at));
  for (size_t lane = 0; lane < to.size(); ++lane) {
    check_guard();
    for (int64_t i = 0; i < axis.out; ++i) {
      double sum = op.extrapolation_value;
      if (const auto& t = taps[static_cast<size_t>(i)]) {
        sum = 0;
        for (size_t k = 0; k < t->weights.size(); ++k) {
          const int64_t place =
              std::clamp(t->first + static_cast<int64_t>(k), int64_t{0}, axis.in - 1);
          sum += t->weights[k] * x.real[static_cast<size_t>(from[lane].at(place))];
        }
      }
      out.real[static_cast<size_t>(to[lane].at(i))] = sum;
    }
  }
  return out;
}

// All axes of x, resized or not.
std::vector<ResizedAxis> axes_of(const Resize& op, const Evaluation& call) {
  const Wide& x = call.at(0);
  std::vector<ResizedAxis> all;
  for (const int64_t extent : x.shape) all.push_back({extent, extent});
  const std::vector<int64_t> at = resized_axes(op, x.rank());
  std::vector<ResizedAxis> some;
  for (const int64_t axis : at) some.push_back(all[static_cast<size_t>(axis)]);
  if (call.has(3)) {
    need_count("sizes", integers(call, 3).size(), at.size());
    resize_to(op, some, integers(call, 3));
  } else {
    need_count("scales", call.at(2).real.size(), at.size());
    for (size_t i = 0; i < at.size(); ++i) {
      some[i].scale = checked_scale(call.at(2).real[i]);
      some[i].out = *scaled_extent(Dim(some[i].in), some[i].scale)->known();
    }
  }
  for (size_t i = 0; i < at.size(); ++i) {
    if (op.coordinate_transformation_mode == "tf_crop_and_resize") {
      const Wide& roi = call.at(1);
      need_count("ends of the region of interest", roi.real.size() / 2, at.size());
      some[i].roi_begin = roi.real[i];
      some[i].roi_end = roi.real[at.size() + i];
    }
    if (some[i].in == 0 && some[i].out > 0) throw RunError("Resize: an empty axis has no values");
    all[static_cast<size_t>(at[i])] = some[i];
  }
  return all;
}

std::vector<Dim> resized_dims(const Resize& op, const Inference& call,
                              const std::vector<int64_t>& at) {
  std::vector<Dim> dims = call.at(0).type.dims;
  if (call.has(3)) {
    const Contents sizes = contents_of(call, 3);
    if (sizes) need_count("sizes", sizes->size(), at.size());
    const auto numbers = sizes ? known_shape(*sizes) : std::nullopt;
    const auto in = known_shape(dims);
    std::vector<ResizedAxis> axes;
    const bool stretch = op.keep_aspect_ratio_policy == "stretch";
    if (!stretch && numbers && in) {
      for (const int64_t axis : at) axes.push_back({(*in)[static_cast<size_t>(axis)], 0});
      resize_to(op, axes, *numbers);
    }
    for (size_t i = 0; i < at.size(); ++i) {
      Dim& d = dims[static_cast<size_t>(at[i])];
      d = stretch && sizes ? (*sizes)[i]
          : !axes.empty()  ? Dim(axes[i].out)
                           : fresh_dim(call, 0, static_cast<size_t>(at[i]));
    }
    return dims;
  }
  const auto& scales = call.at(2).constant;
  if (scales != nullptr) need_count("scales", static_cast<size_t>(scales->count()), at.size());
  const Wide numbers = scales != nullptr ? widen(*scales) : Wide();
  for (size_t i = 0; i < at.size(); ++i) {
    const auto axis = static_cast<size_t>(at[i]);
    const auto extent =
        scales != nullptr
            ? scaled_extent(dims[axis], checked_scale(numbers.at(static_cast<int64_t>(i))))
            : std::nullopt;
    dims[axis] = extent ? *extent : fresh_dim(call, 0, axis);
  }
  return dims;
}

}  // namespace

std::vector<int64_t> nearest_places(const Resize& op, const ResizedAxis& axis) {
  std::vector<int64_t> places;
  for (int64_t i = 0; i < axis.out; ++i) {
    const auto at = coordinate(op, axis, i);
    places.push_back(at ? std::clamp(nearest(op, *at), int64_t{0}, axis.in - 1) : kFill);
  }
  return places;
}

void Resize::infer(Inference& call) const {
  check_names(*this);
  const TensorType& x = call.at(0).type;
  if (mode != "nearest") need_number(kName, call, 0);
  if (call.has(2) == call.has(3)) throw GraphError("Resize needs either scales or sizes");
  if (call.has(3)) need_integer(kName, call, 3);
  if (call.has(2)) need_float(kName, call, 2);
  if (coordinate_transformation_mode == "tf_crop_and_resize") {
    if (!call.has(1)) throw GraphError("Resize: tf_crop_and_resize needs a region of interest");
    need_float(kName, call, 1);
  }
  const auto at = resized_axes(*this, x.rank());
  set_type(call, 0, x.dtype, resized_dims(*this, call, at));
}

void Resize::reference(Evaluation& call) const {
  const std::vector<ResizedAxis> resized = axes_of(*this, call);
  const bool crop = coordinate_transformation_mode == "tf_crop_and_resize";
  const Wide& x = call.at(0);
  Shape shape;
  for (const ResizedAxis& axis : resized) shape.push_back(axis.out);
  check_size(shape);
  if (mode == "nearest") {
    std::vector<Walk> walks = plain_walks(x.shape);
    for (size_t i = 0; i < walks.size(); ++i)
      walks[i].positions = nearest_places(*this, resized[i]);
    Wide fill = make_wide(x.dtype, {1});
    std::ranges::fill(fill.real, extrapolation_value);
    std::ranges::fill(fill.integer, static_cast<int64_t>(extrapolation_value));
    call.out[0] = take(x, walk(walks), &fill);
    return;
  }
  Wide y = x;
  if (!x.floating()) y.real.assign(x.integer.begin(), x.integer.end());
  for (size_t i = 0; i < resized.size(); ++i) {
    const ResizedAxis& axis = resized[i];
    if (crop || axis.in != axis.out || axis.scale != 1) y = interpolated(*this, y, i, axis);
  }
  if (!x.floating()) {
    y.integer.assign(y.real.begin(), y.real.end());  // towards zero
    y.real.clear();
    wrap(y);
  }
  call.out[0] = std::move(y);
}
PLANCK_OP(Resize, 19)

}  // namespace planck::ops
