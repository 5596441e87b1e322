#include "quant/scale_reader.h"

#include <algorithm>
#include <limits>
#include <set>

#include "base/error.h"
#include "base/log.h"

namespace planck {
namespace {

constexpr int kMostDepth = 16;  // our deepest format has 6

// Refuses what nlohmann's reader lets pass: deep nesting, and names that come twice.
class JsonGuard {
 public:
  bool operator()(int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kMostDepth) throw ParseError("the JSON is nested deeper than ", kMostDepth);
    if (event == Json::parse_event_t::object_start) names_.emplace_back();
    if (event == Json::parse_event_t::object_end) names_.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names_.back().insert(name).second) {
        throw ParseError("the JSON gives '", escaped(name, 80), "' twice");
      }
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> names_;
};

constexpr double kLargest = std::numeric_limits<float>::max();  // scales are float32

[[noreturn]] void refuse(const std::string& name, double value, const char* what,
                         const char* expected) {
  throw with(CalibrationError("the ", what, " of '", escaped(name, 80), "' is ", value),
             {.expected = expected, .got = cat(value)});
}

void append_numbers(const Json& value, const std::string& name, std::vector<double>& out) {
  if (!value.is_array()) {
    out.push_back(number_of(value, name));
    return;
  }
  for (const Json& item : value) append_numbers(item, name, out);  // the guard bounds the depth
}

TensorScale grid(const std::string& name, const std::vector<double>& thresholds, int64_t axis) {
  if (thresholds.empty()) {
    throw ParseError("'", escaped(name, 80), "' has no numbers");
  }
  TensorScale out;
  out.name = name;
  out.params.axis = thresholds.size() == 1 ? -1 : axis;
  for (const double t : thresholds) out.params.scale.push_back(symmetric_scale(t));
  out.params.zero_point.assign(thresholds.size(), 0);
  out.threshold = *std::ranges::max_element(thresholds);
  if (out.threshold == 0) out.note = "dead";
  return out;
}

}  // namespace

Json parse_json(std::string_view text) {
  try {
    JsonGuard guard;
    Json json = Json::parse(text, [&guard](int depth, Json::parse_event_t event, Json& parsed) {
      return guard(depth, event, parsed);
    });
    if (!json.is_object()) throw ParseError("the JSON is no object");
    return json;
  } catch (const Json::exception& e) {
    throw with(ParseError("this is no JSON: ", escaped(e.what(), 200)),
               {.hint = "JSON has no NaN and no Infinity, and the file must be whole"});
  }
}

double number_of(const Json& value, const std::string& name) {
  if (value.is_number()) return value.get<double>();
  throw with(ParseError("'", escaped(name, 80), "' has no number but ", value.type_name()),
             {.expected = "a number", .got = value.type_name()});
}

std::vector<double> numbers_of(const Json& value, const std::string& name) {
  std::vector<double> out;
  append_numbers(value, name, out);
  return out;
}

TensorScale from_range(const std::string& name, double range) {
  return from_ranges(name, {range}, -1);
}

TensorScale from_ranges(const std::string& name, const std::vector<double>& ranges, int64_t axis) {
  for (const double range : ranges) {
    if (!(range >= 0 && range <= kLargest))
      refuse(name, range, "range", "a finite range, 0 or more");
  }
  return grid(name, ranges, axis);
}

TensorScale from_scale(const std::string& name, double scale) {
  return from_scales(name, {scale}, -1);
}

TensorScale from_scales(const std::string& name, const std::vector<double>& scales, int64_t axis) {
  std::vector<double> thresholds;
  for (const double scale : scales) {
    if (!(scale > 0 && scale <= kLargest)) refuse(name, scale, "scale", "a finite scale above 0");
    thresholds.push_back(scale * 127.0);
  }
  TensorScale out = grid(name, thresholds, axis);
  for (size_t i = 0; i < scales.size(); ++i) {  // as given, not by way of the threshold
    out.params.scale[i] = std::max(static_cast<float>(scales[i]), 0x1p-126F);
  }
  return out;
}

}  // namespace planck
