#include "quant/weight_grid.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/guard.h"

namespace planck {
namespace {

// The elements of channel c are runs of `inner`, one for each of `outer`.
struct Channels {
  int64_t outer = 1, count = 1, inner = 1;
  int64_t first(int64_t o, int64_t c) const { return (o * count + c) * inner; }
};

Channels channels_of(std::span<const int64_t> shape, int64_t axis) {
  Channels c;
  for (int64_t d = 0; d < static_cast<int64_t>(shape.size()); ++d) {
    const int64_t extent = shape[static_cast<size_t>(d)];
    (axis < 0 || d > axis ? c.inner : d == axis ? c.count : c.outer) *= extent;
  }
  return c;
}

constexpr size_t kBlock = 16;  // a constant count of turns, which compilers turn into vectors

// The channel's values, zeros behind them up to a whole block: those cost no error.
void gather(std::span<const float> values, const Channels& channels, int64_t c,
            std::vector<float>& out) {
  out.clear();
  for (int64_t o = 0; o < channels.outer; ++o) {
    const float* run = values.data() + channels.first(o, c);
    out.insert(out.end(), run, run + channels.inner);
  }
  out.resize((out.size() + kBlock - 1) / kBlock * kBlock, 0.0F);
}

// Adding 1.5 * 2^23 leaves no fraction, rounded to nearest even, for |x| up to 2^22.
float rounded(float x) {
  constexpr float kShift = 12582912.0F;
  return (x + kShift) - kShift;
}

double squared_error(std::span<const float> values, float scale) {
  constexpr auto kLast = static_cast<float>(kWeightSteps);
  const float inverse = 1.0F / scale;
  double total = 0;
  for (size_t i = 0; i < values.size(); i += kBlock) {
    float lane[kBlock];
    for (size_t j = 0; j < kBlock; ++j) {
      const float x = values[i + j];
      const float q = rounded(std::min(std::max(x * inverse, -kLast), kLast));
      lane[j] = (x - q * scale) * (x - q * scale);
    }
    float sum = 0;
    for (const float l : lane) sum += l;
    total += static_cast<double>(sum);
  }
  return total;
}

float scale_of(double threshold) {
  return std::max(static_cast<float>(threshold / kWeightSteps), std::numeric_limits<float>::min());
}

// Thresholds from `from` down in `steps` steps of `width`, as parts of absmax; the best so far.
struct Best {
  double part = 1, error = 0;
};
void search(std::span<const float> values, double absmax, double from, double width, int steps,
            Best& best) {
  for (int i = 0; i < steps; ++i) {
    const double part = from - width * i;
    if (part > 1 || part <= 0) continue;
    const double error = squared_error(values, scale_of(absmax * part));
    if (error < best.error || (error == best.error && part > best.part)) best = {part, error};
  }
}

float least_error_scale(std::span<const float> values, double absmax) {
  constexpr double kCoarse = 0.04, kFine = 0.01;
  Best best{1, squared_error(values, scale_of(absmax))};
  search(values, absmax, 1 - kCoarse, kCoarse, 15, best);
  search(values, absmax, best.part + 3 * kFine, kFine, 7, best);
  return scale_of(absmax * best.part);
}

double largest(std::span<const float> values) {
  double out = 0;
  for (const float x : values) {
    if (!std::isfinite(x)) throw CalibrationError("a weight is ", x);
    out = std::max(out, static_cast<double>(std::fabs(x)));
  }
  return out;
}

}  // namespace

QParams weight_grid(std::span<const float> values, std::span<const int64_t> shape, int64_t axis,
                    const std::string& method) {
  const Channels channels = channels_of(shape, axis);
  QParams grid;
  grid.dtype = DType::s8;
  grid.axis = axis;
  std::vector<float> channel;
  for (int64_t c = 0; c < channels.count; ++c) {
    check_guard();
    gather(values, channels, c, channel);
    const double absmax = largest(channel);
    const bool dead = absmax == 0;
    grid.scale.push_back(dead              ? 1.0F
                         : method == "max" ? scale_of(absmax)
                                           : least_error_scale(channel, absmax));
    grid.zero_point.push_back(0);
  }
  return grid;
}

std::vector<int8_t> on_grid(std::span<const float> values, std::span<const int64_t> shape,
                            const QParams& grid) {
  const Channels channels = channels_of(shape, grid.axis);
  std::vector<int8_t> out(values.size());
  for (int64_t o = 0; o < channels.outer; ++o) {
    check_guard();
    for (int64_t c = 0; c < channels.count; ++c) {
      const float scale = grid.scale[static_cast<size_t>(c)];
      const int64_t first = channels.first(o, c);
      for (int64_t i = first; i < first + channels.inner; ++i) {
        const float q = std::nearbyint(values[static_cast<size_t>(i)] / scale);
        out[static_cast<size_t>(i)] = static_cast<int8_t>(
            std::clamp(q, static_cast<float>(-kWeightSteps), static_cast<float>(kWeightSteps)));
      }
    }
  }
  return out;
}

}  // namespace planck
