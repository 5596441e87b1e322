// Coordinates and weights: https://onnx.ai/onnx/operators/onnx__Resize.html
#include "base/resample.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string_view>

#include "base/error.h"
#include "base/guard.h"

namespace planck {
namespace {

void check_word(std::string_view what, std::string_view got,
                std::initializer_list<std::string_view> words) {
  if (std::ranges::find(words, got) != words.end()) return;
  throw GraphError("Resize: ", what, " '", got, "', expected ",
                   joined(std::vector<std::string_view>(words)));
}

// Where the output place lies in x. Nothing: outside of what tf_crop_and_resize reads.
std::optional<double> coordinate(const ResampleRule& rule, const ResampledAxis& a, int64_t place) {
  const std::string_view mode = rule.coordinates;
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

double nearest(const ResampleRule& rule, double at) {
  const double low = std::floor(at), past = at - low;
  if (rule.rounding == "floor") return low;
  if (rule.rounding == "ceil") return std::ceil(at);
  const bool up = rule.rounding == "round_prefer_floor" ? past > 0.5 : past >= 0.5;
  return up ? low + 1 : low;
}

double cubic(double distance, double a) {
  const double x = std::abs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// Half the number of places that a filter reads. When a picture shrinks, antialias widens it by
// 1 / stretch, so that nothing is left out.
int64_t reach_of(const ResampleRule& rule, const ResampledAxis& axis, double stretch) {
  const double reach = std::ceil((rule.mode == "linear" ? 1 : 2) / stretch);
  if (!(reach <= 4.0 * static_cast<double>(axis.in) + 8)) {
    throw RunError("Resize: a filter over ", reach, " places of an axis of ", axis.in);
  }
  return static_cast<int64_t>(reach);
}

class Table {
 public:
  Table(const ResampleRule& rule, const ResampledAxis& axis)
      : rule_(rule),
        axis_(axis),
        stretch_(rule.antialias ? std::min(axis.scale, 1.0) : 1.0),
        reach_(rule.mode == "nearest" ? 0 : reach_of(rule, axis, stretch_)) {
    table_.taps = std::max<int64_t>(2 * reach_, 1);
  }

  ResampleTable run() {
    for (int64_t i = 0; i < axis_.out; ++i) {
      check_guard_at(static_cast<size_t>(i));
      const auto at = coordinate(rule_, axis_, i);
      if (!at) {
        table_.places.insert(table_.places.end(), static_cast<size_t>(table_.taps), -1);
        table_.weights.insert(table_.weights.end(), static_cast<size_t>(table_.taps), 0);
      } else if (rule_.mode == "nearest") {
        put(nearest(rule_, *at), 1);
      } else {
        weigh(*at);
      }
    }
    return std::move(table_);
  }

 private:
  void put(double place, double weight) {
    const auto last = static_cast<double>(axis_.in - 1);
    table_.places.push_back(static_cast<int64_t>(std::clamp(place, 0.0, last)));
    table_.weights.push_back(weight);
  }

  void weigh(double at) {
    const double first = std::ceil(at) - static_cast<double>(reach_);
    double sum = 0;
    for (int64_t i = 0; i < table_.taps; ++i) {
      const double place = first + static_cast<double>(i);
      const bool outside = place < 0 || place >= static_cast<double>(axis_.in);
      const double distance = (place - at) * stretch_;
      const double weight = rule_.exclude_outside && outside ? 0
                            : rule_.mode == "linear"         ? std::max(1 - std::abs(distance), 0.0)
                                                             : cubic(distance, rule_.cubic_a);
      put(place, weight);
      sum += weight;
    }
    if (!rule_.antialias && !rule_.exclude_outside) return;
    for (auto w = table_.weights.end() - table_.taps; w != table_.weights.end(); ++w) *w /= sum;
  }

  const ResampleRule& rule_;
  const ResampledAxis& axis_;
  const double stretch_;
  const int64_t reach_;
  ResampleTable table_;
};

}  // namespace

void check_rule(const ResampleRule& rule) {
  check_word("mode", rule.mode, {"nearest", "linear", "cubic"});
  check_word("nearest_mode", rule.rounding,
             {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"});
  check_word("coordinate_transformation_mode", rule.coordinates,
             {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
              "asymmetric", "tf_crop_and_resize", "tf_half_pixel_for_nn"});
}

ResampleTable resample_table(const ResampleRule& rule, const ResampledAxis& axis) {
  if (axis.in == 0 && axis.out > 0) throw RunError("Resize: an empty axis has no values");
  return Table(rule, axis).run();
}

}  // namespace planck
