#include "ops/resize.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/checked.h"
#include "ops/support.h"

namespace planck::ops {

namespace {

void check_names(const Resize& op) {
  check_rule(op.rule());
  const std::string_view policy = op.keep_aspect_ratio_policy;
  if (policy != "stretch" && policy != "not_larger" && policy != "not_smaller") {
    throw GraphError("Resize: keep_aspect_ratio_policy '", policy,
                     "', expected stretch, not_larger or not_smaller");
  }
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
double common_scale(const Resize& op, std::span<const ResampledAxis> axes) {
  const auto by_scale = [](const ResampledAxis& a, const ResampledAxis& b) {
    return a.scale < b.scale;
  };
  return op.keep_aspect_ratio_policy == "not_larger"
             ? std::ranges::min_element(axes, by_scale)->scale
             : std::ranges::max_element(axes, by_scale)->scale;
}

// Sets extents and scales of the resized axes from the sizes that the model asks for.
void resize_to(const Resize& op, std::span<ResampledAxis> axes, std::span<const int64_t> sizes) {
  for (size_t i = 0; i < axes.size(); ++i) {
    if (sizes[i] < 0) throw GraphError("Resize: the size ", sizes[i]);
    axes[i].out = sizes[i];
    if (axes[i].in == 0) continue;
    axes[i].scale = static_cast<double>(sizes[i]) / static_cast<double>(axes[i].in);
  }
  if (op.keep_aspect_ratio_policy == "stretch" || axes.empty()) return;
  const double scale = common_scale(op, axes);
  for (ResampledAxis& axis : axes) {
    axis.scale = scale;
    axis.out = static_cast<int64_t>(scale * static_cast<double>(axis.in) + 0.5);
  }
}

Wide interpolated(const Resize& op, const Wide& x, size_t at, const ResampledAxis& axis) {
  Shape shape = x.shape;
  shape[at] = axis.out;
  Wide out = make_wide(x.dtype, std::move(shape));
  const ResampleTable table = resample_table(op.rule(), axis);
  const auto from = lanes(x.shape, static_cast<int64_t>(at));
  const auto to = lanes(out.shape, static_cast<int64_t>(at));
  for (size_t lane = 0; lane < to.size(); ++lane) {
    check_guard();
    for (int64_t i = 0; i < axis.out; ++i) {
      const auto first = static_cast<size_t>(i * table.taps);
      double sum = table.places[first] < 0 ? op.extrapolation_value : 0;
      for (size_t k = first; k < first + static_cast<size_t>(table.taps); ++k) {
        if (table.places[k] < 0) continue;
        sum += table.weights[k] * x.real[static_cast<size_t>(from[lane].at(table.places[k]))];
      }
      out.real[static_cast<size_t>(to[lane].at(i))] = sum;
    }
  }
  return out;
}

// All axes of x, resized or not.
std::vector<ResampledAxis> axes_of(const Resize& op, const Evaluation& call) {
  const Wide& x = call.at(0);
  std::vector<ResampledAxis> all;
  for (const int64_t extent : x.shape) all.push_back({extent, extent});
  const std::vector<int64_t> at = resized_axes(op, x.rank());
  std::vector<ResampledAxis> some;
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
    std::vector<ResampledAxis> axes;
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
  const std::vector<ResampledAxis> resized = axes_of(*this, call);
  const bool crop = coordinate_transformation_mode == "tf_crop_and_resize";
  const Wide& x = call.at(0);
  Shape shape;
  for (const ResampledAxis& axis : resized) shape.push_back(axis.out);
  check_size(shape);
  if (mode == "nearest") {
    std::vector<Walk> walks = plain_walks(x.shape);
    for (size_t i = 0; i < walks.size(); ++i)
      walks[i].positions = resample_table(rule(), resized[i]).places;
    Wide fill = make_wide(x.dtype, {1});
    std::ranges::fill(fill.real, extrapolation_value);
    std::ranges::fill(fill.integer, static_cast<int64_t>(extrapolation_value));
    call.out[0] = take(x, walk(walks), &fill);
    return;
  }
  Wide y = x;
  if (!x.floating()) y.real.assign(x.integer.begin(), x.integer.end());
  for (size_t i = 0; i < resized.size(); ++i) {
    const ResampledAxis& axis = resized[i];
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
