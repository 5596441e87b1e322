#pragma once
// What the readers of scale files share.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "quant/scales.h"

namespace planck {

using Json = nlohmann::json;

// A scale file as its format wants it: the text, and the same as JSON where it is an object.
struct ScaleText {
  std::string_view text;
  Json json;  // null: no JSON object
};

// One format: whether a text is of it, and its reader. Made by scale_formats.inc.
#define PLANCK_SCALE_FORMAT(kind, content) \
  bool is_##kind(const ScaleText& file);   \
  Scales scales_from_##kind(const ScaleText& file);
#include "quant/scale_formats.inc"
#undef PLANCK_SCALE_FORMAT

// A whole JSON object. ParseError: no JSON, too deep, a name that comes twice.
Json parse_json(std::string_view text);

// A symmetric s8 grid. CalibrationError, naming it, for a number that is negative or not finite.
// The range 0 is that of a tensor without life; the scale 0 is an error.
TensorScale from_range(const std::string& name, double range);
TensorScale from_scale(const std::string& name, double scale);
// The same for each index along `axis`; channels without life get the scale 1.
TensorScale from_ranges(const std::string& name, const std::vector<double>& ranges, int64_t axis);
TensorScale from_scales(const std::string& name, const std::vector<double>& scales, int64_t axis);

// A number of a JSON file. ParseError, naming the tensor.
double number_of(const Json& value, const std::string& name);
// A number or an array of numbers, nested ones in their order.
std::vector<double> numbers_of(const Json& value, const std::string& name);

}  // namespace planck
