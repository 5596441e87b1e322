#include "quant/grid_error.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace planck {
namespace {

// Adding and subtracting it rounds a double below 2^51 to the nearest integer, ties to even.
constexpr double kRounder = 6755399441055744.0;

// The integral of (u - q(u))^2 from 0 to u, in units of the scale: each whole step gives 1/12, the
// last one, which the clamp may make long, (u - n)^3 / 3 beyond its middle.
double integral(double u, double steps) {
  double n = (u + kRounder) - kRounder;
  n = n < steps ? n : steps;
  const double t = u - n;
  return n * (1.0 / 12.0) + t * t * t * (1.0 / 3.0);
}

// Sum over edges j of integral(j * ratio) * drop[j]. Four sums, so that order is fixed and the
// compiler may use vectors.
double edge_sum(const std::vector<double>& drop, double ratio, double steps) {
  constexpr size_t kPart = 4;
  double parts[kPart] = {};
  const size_t whole = drop.size() / kPart * kPart;
  for (size_t j = 0; j < whole; j += kPart) {
    for (size_t p = 0; p < kPart; ++p) {
      parts[p] +=
          integral(static_cast<double>(static_cast<int32_t>(j + p)) * ratio, steps) * drop[j + p];
    }
  }
  for (size_t j = whole; j < drop.size(); ++j) {
    parts[j - whole] += integral(static_cast<double>(j) * ratio, steps) * drop[j];
  }
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

}  // namespace

Grid grid_of(DType dtype, double threshold, const Histogram& h) {
  constexpr double kSmallest = std::numeric_limits<float>::min();
  if (dtype == DType::s8) {
    if (!(threshold > 0)) return {dtype, 1, 0};
    return {dtype, static_cast<float>(std::max(threshold / 127.0, kSmallest)), 0};
  }
  const double low = std::min(0.0, std::max<double>(h.min, -threshold));
  const double high = std::max(0.0, std::min<double>(h.max, threshold));
  if (!(high > low)) return {dtype, 1, 0};
  const auto scale = static_cast<float>(std::max((high - low) / 255.0, kSmallest));
  const double zero_point = std::nearbyint(-low / static_cast<double>(scale));
  return {dtype, scale, static_cast<int32_t>(std::clamp(zero_point, 0.0, 255.0))};
}

GridError::GridError(const Histogram& h)
    : pos_(side_of(h.pos, h.bin_width(), h.max)),
      neg_(side_of(h.neg, h.bin_width(), -static_cast<double>(h.min))),
      width_(h.bin_width()),
      count_(static_cast<double>(h.count)) {}

GridError::Side GridError::side_of(const Bins& bins, double width, double extremum) {
  size_t used = bins.size();
  while (used > 0 && bins[used - 1] == 0) --used;
  Side side;
  if (used == 0) return side;
  side.outermost = static_cast<double>(bins[used - 1]);
  side.start = static_cast<double>(used - 1) * width;
  side.end = extremum;
  side.drop.resize(used);
  double before = 0;
  for (size_t j = 0; j < used; ++j) {
    const double here = j + 1 < used ? static_cast<double>(bins[j]) : 0;
    side.drop[j] = before - here;
    before = here;
  }
  return side;
}

double GridError::sum(const Side& side, double scale, double steps) const {
  if (side.drop.empty()) return 0;
  const double ratio = width_ / scale;
  const double whole_bins = edge_sum(side.drop, ratio, steps) / ratio;
  const double from = side.start / scale, to = side.end / scale;
  // A bin of one value, or nearly: the difference of integrals would be noise.
  if (to - from < 1e-6 * ratio) {
    const double t = to - std::min(std::nearbyint(to), steps);
    return scale * scale * (whole_bins + side.outermost * t * t);
  }
  const double mean = (integral(to, steps) - integral(from, steps)) / (to - from);
  return scale * scale * (whole_bins + side.outermost * mean);
}

double GridError::operator()(const Grid& grid) const {
  if (count_ == 0) return 0;
  const double scale = grid.scale;
  return (sum(pos_, scale, grid.steps_above()) + sum(neg_, scale, grid.steps_below())) / count_;
}

double GridError::signal() const {
  double total = 0;
  for (const Side* side : {&pos_, &neg_}) {
    // The integral of x^2 is a cube; its differences lose nothing that matters here.
    double cubes = 0;
    for (size_t j = 0; j < side->drop.size(); ++j) {
      const double edge = static_cast<double>(j) * width_;
      cubes += edge * edge * edge * side->drop[j];
    }
    const double from = side->start, to = side->end;
    total += cubes / (3 * width_) + side->outermost * (from * from + from * to + to * to) / 3;
  }
  return count_ == 0 ? 0 : total / count_;
}

double decibel_lost(double error, double best) {
  if (error <= best) return 0;
  return best > 0 ? 10 * std::log10(error / best) : std::numeric_limits<double>::infinity();
}

}  // namespace planck
