// Pictures read at places that the run computes: GridSample and RoiAlign.
// Sources of the rules: M. Jaderberg et al., "Spatial Transformer Networks", 2015; K. He et al.,
// "Mask R-CNN", 2017; cubic weights by R. Keys, 1981, with a = -0.75.
#include "ops/sample.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

void need_one_of(std::string_view op, std::string_view attribute, const std::string& value,
                 std::initializer_list<std::string_view> known) {
  if (std::ranges::find(known, value) != known.end()) return;
  std::string all;
  for (const std::string_view name : known) all += (all.empty() ? "" : ", ") + std::string(name);
  throw GraphError(op, ": ", attribute, " is '", value, "', expected one of ", all);
}

// One element that takes part along one axis; index -1 reads zero.
struct Tap {
  int64_t index;
  double weight;
};
using Taps = std::vector<Tap>;

// --- GridSample -----------------------------------------------------------------------------

// Where an axis of a length ends for reflection, and what lies behind its ends.
struct Axis {
  const GridSample& op;
  int64_t length;

  double low() const { return op.align_corners != 0 ? 0 : -0.5; }
  double high() const { return static_cast<double>(length) - (op.align_corners != 0 ? 1 : 0.5); }

  double place(double normalised) const {
    const auto extent = static_cast<double>(length);
    return op.align_corners != 0 ? (normalised + 1) / 2 * (extent - 1)
                                 : ((normalised + 1) * extent - 1) / 2;
  }

  double reflected(double x) const {
    const double range = high() - low();
    if (range <= 0) return 0;
    const double beyond = x < low() ? low() - x : x - high();
    if (beyond <= 0) return x;
    const double turns = std::floor(beyond / range), rest = beyond - turns * range;
    const bool from_low = (x < low()) == (std::fmod(turns, 2) == 0);
    return from_low ? low() + rest : high() - rest;
  }

  double inside(double x) const {
    if (op.padding_mode == "border") return std::clamp(x, 0.0, static_cast<double>(length - 1));
    return op.padding_mode == "reflection" ? reflected(x) : x;
  }

  // The element that a whole number stands for.
  int64_t element(double whole) const {
    const double at = std::trunc(inside(whole));
    return at >= 0 && at < static_cast<double>(length) ? static_cast<int64_t>(at) : -1;
  }

  Taps taps(double normalised) const {
    double x = place(normalised);
    if (!std::isfinite(x)) x = -2;  // behind the first element, as every comparison with it says
    if (op.mode == "nearest") return {{element(std::nearbyint(inside(std::nearbyint(x)))), 1}};
    if (x < low() || x > high()) x = inside(x);
    const double first = std::floor(x), t = x - first;
    if (op.mode == "linear") return {{element(first), 1 - t}, {element(first + 1), t}};
    constexpr double kA = -0.75;
    const auto near = [](double s) { return ((kA + 2) * s - (kA + 3)) * s * s + 1; };
    const auto far = [](double s) { return ((kA * s - 5 * kA) * s + 8 * kA) * s - 4 * kA; };
    return {{element(first - 1), far(t + 1)},
            {element(first), near(t)},
            {element(first + 1), near(1 - t)},
            {element(first + 2), far(2 - t)}};
  }
};

// The sum over all combinations of taps, for the plane that begins at `data`.
double weighted(const double* data, std::span<const Taps> axes, std::span<const int64_t> shape) {
  if (axes.empty()) return *data;
  int64_t stride = 1;
  for (const int64_t d : shape.subspan(1)) stride *= d;
  double sum = 0;
  for (const Tap& tap : axes[0]) {
    if (tap.index < 0) continue;
    sum += tap.weight * weighted(data + tap.index * stride, axes.subspan(1), shape.subspan(1));
  }
  return sum;
}

// --- RoiAlign -------------------------------------------------------------------------------

// Both elements around x, between which it is interpolated; none beyond one element outside.
std::array<Tap, 2> around(double x, int64_t length) {
  if (!(x >= -1 && x <= static_cast<double>(length))) return {Tap{0, 0}, Tap{0, 0}};
  x = std::clamp(x, 0.0, static_cast<double>(length - 1));
  const auto first = static_cast<int64_t>(x);
  const double t = x - static_cast<double>(first);
  return {Tap{first, 1 - t}, Tap{std::min(first + 1, length - 1), t}};
}

// A region along one axis: where it begins, how large a cell is, how many samples a cell has.
struct Side {
  double start, cell;
  int64_t samples;
  double at(int64_t place, int64_t sample) const {
    const double within = (static_cast<double>(sample) + 0.5) / static_cast<double>(samples);
    return start + (static_cast<double>(place) + within) * cell;
  }
};

Side side_of(const RoiAlign& op, double from, double to, int64_t cells) {
  const bool half = op.coordinate_transformation_mode == "half_pixel";
  const double start = from * op.spatial_scale - (half ? 0.5 : 0);
  double extent = to * op.spatial_scale - (half ? 0.5 : 0) - start;
  if (!half) extent = std::max(extent, 1.0);
  const double cell = extent / static_cast<double>(cells);
  constexpr double kMostSamples = 1 << 20;  // of a cell; a region may be as large as a float
  if (!(std::abs(extent) < kMostSamples)) {
    throw RunError("RoiAlign: a region of ", extent, " elements along one axis is too large");
  }
  const int64_t samples =
      op.sampling_ratio > 0 ? op.sampling_ratio : static_cast<int64_t>(std::ceil(cell));
  return {start, cell, std::max<int64_t>(samples, 0)};
}

// One cell of one channel.
double pooled(const RoiAlign& op, const double* plane, const Shape& shape, const Side& rows,
              const Side& columns, int64_t row, int64_t column) {
  const int64_t height = shape[2], width = shape[3];
  const bool largest = op.mode == "max";
  double out = 0;
  bool first = true;
  for (int64_t i = 0; i < rows.samples; ++i) {
    check_guard_at(static_cast<size_t>(i));
    const auto y = around(rows.at(row, i), height);
    for (int64_t j = 0; j < columns.samples; ++j) {
      const auto x = around(columns.at(column, j), width);
      double sum = 0, top = -std::numeric_limits<double>::infinity();
      for (const Tap& a : y) {
        for (const Tap& b : x) {
          const double part = a.weight * b.weight * plane[a.index * width + b.index];
          sum += part;
          top = std::max(top, part);  // of the weighted corners, as ONNX has it
        }
      }
      out = !largest ? out + sum : first ? top : std::max(out, top);
      first = false;
    }
  }
  const int64_t count = std::max<int64_t>(rows.samples * columns.samples, 1);
  return largest ? out : out / static_cast<double>(count);
}

}  // namespace

void GridSample::infer(Inference& call) const {
  need_number(kName, call, 0);
  need_float(kName, call, 1);
  need_rank(kName, call, 0, 3);
  const auto &x = call.at(0).type, &grid = call.at(1).type;
  need_rank(kName, call, 1, x.rank(), x.rank());
  need_one_of(kName, "mode", mode, {"nearest", "linear", "cubic"});
  need_one_of(kName, "padding_mode", padding_mode, {"zeros", "border", "reflection"});
  const Dim& axes = grid.dims.back();
  if (axes.is_constant() && axes != Dim(x.rank() - 2)) {
    throw GraphError("GridSample: the grid is ", grid, ", expected ", x.rank() - 2,
                     " coordinates for ", x);
  }
  std::vector<Dim> dims{x.dims[0], x.dims[1]};
  dims.insert(dims.end(), grid.dims.begin() + 1, grid.dims.end() - 1);
  set_type(call, 0, x.dtype, std::move(dims));
}

void GridSample::reference(Evaluation& call) const {
  const Wide &x = call.at(0), &grid = call.at(1);
  const int64_t axes = x.rank() - 2, channels = x.shape[1];
  const std::span<const int64_t> plane = std::span(x.shape).subspan(2);
  int64_t size = 1, places = 1;
  for (const int64_t d : plane) size *= d;
  Shape shape{x.shape[0], channels};
  for (int64_t i = 1; i < grid.rank() - 1; ++i) {
    shape.push_back(grid.shape[static_cast<size_t>(i)]);
    places *= shape.back();
  }
  if (grid.shape[0] != x.shape[0] || grid.shape.back() != axes) {
    throw RunError("GridSample: the grid is ", shape_text(grid.shape), " for ",
                   shape_text(x.shape));
  }
  Wide out = make_wide(x.dtype, shape);
  if (out.count() > 0 && size == 0) throw RunError("GridSample: there is nothing to sample");
  std::vector<double> numbers(static_cast<size_t>(x.floating() ? 0 : x.count()));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = real_at(x, i);
  const double* data = x.floating() ? x.real.data() : numbers.data();
  std::vector<Taps> taps(static_cast<size_t>(axes));
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    for (int64_t place = 0; place < places; ++place) {
      check_guard_at(static_cast<size_t>(place));
      for (int64_t a = 0; a < axes; ++a) {
        const double at = grid.at((n * places + place) * axes + axes - 1 - a);
        taps[static_cast<size_t>(a)] = Axis{*this, plane[static_cast<size_t>(a)]}.taps(at);
      }
      for (int64_t c = 0; c < channels; ++c) {
        const double y = weighted(data + (n * channels + c) * size, taps, plane);
        const auto to = static_cast<size_t>((n * channels + c) * places + place);
        out.floating() ? void(out.real[to] = y)
                       : void(out.integer[to] = static_cast<int64_t>(std::trunc(y)));
      }
    }
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(GridSample, 22)

void RoiAlign::infer(Inference& call) const {
  need_float(kName, call, 0);
  need_same_type(kName, call, 0, 1);
  need_integer(kName, call, 2);
  need_rank(kName, call, 0, 4, 4);
  need_rank(kName, call, 1, 2, 2);
  need_rank(kName, call, 2, 1, 1);
  need_one_of(kName, "mode", mode, {"avg", "max"});
  need_one_of(kName, "coordinate_transformation_mode", coordinate_transformation_mode,
              {"half_pixel", "output_half_pixel"});
  if (output_height < 1 || output_width < 1) {
    throw GraphError("RoiAlign: the output is ", output_height, " x ", output_width,
                     ", expected at least 1 x 1");
  }
  set_type(call, 0, call.at(0).type.dtype,
           {call.at(1).type.dims[0], call.at(0).type.dims[1], output_height, output_width});
}

void RoiAlign::reference(Evaluation& call) const {
  const Wide &x = call.at(0), &regions = call.at(1);
  const std::vector<int64_t>& pictures = integers(call, 2);
  const int64_t count = regions.shape[0], channels = x.shape[1];
  if (regions.shape[1] != 4 || std::ssize(pictures) != count) {
    throw RunError("RoiAlign: the regions are ", shape_text(regions.shape), " with ",
                   pictures.size(), " pictures, expected [R,4] with R");
  }
  Wide out = make_wide(x.dtype, {count, channels, output_height, output_width});
  if (out.count() > 0 && x.shape[2] * x.shape[3] == 0) {
    throw RunError("RoiAlign: there is nothing to sample");
  }
  size_t to = 0;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t picture = pictures[static_cast<size_t>(r)];
    if (picture < 0 || picture >= x.shape[0]) {
      throw RunError("RoiAlign: picture ", picture, " is outside [0, ", x.shape[0], ")");
    }
    const Side columns = side_of(*this, regions.at(4 * r), regions.at(4 * r + 2), output_width);
    const Side rows = side_of(*this, regions.at(4 * r + 1), regions.at(4 * r + 3), output_height);
    for (int64_t c = 0; c < channels; ++c) {
      const double* plane = x.real.data() + (picture * channels + c) * x.shape[2] * x.shape[3];
      for (int64_t i = 0; i < output_height; ++i) {
        for (int64_t j = 0; j < output_width; ++j) {
          out.real[to++] = pooled(*this, plane, x.shape, rows, columns, i, j);
        }
      }
    }
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(RoiAlign, 22)

}  // namespace planck::ops
