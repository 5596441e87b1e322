// JSON formats: our own, TAO, cuDLA, MQBench, ONNX Runtime, QAT buffers, LSQ. AIMET's has a file of
// its own.
#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "quant/scale_reader.h"

namespace planck {
namespace {

bool has(const ScaleText& file, const char* name) {
  return file.json.is_object() && file.json.contains(name);
}

// The object under a name. ParseError.
const Json& object_at(const Json& json, const std::string& name) {
  if (json.is_object() && json.contains(name) && json.at(name).is_object()) return json.at(name);
  throw with(ParseError("the file has no object '", name, "'"), {.expected = name});
}

std::string text_at(const Json& json, const char* name) {
  if (json.contains(name) && json.at(name).is_string()) return json.at(name).get<std::string>();
  return {};
}

std::vector<double> magnitudes(std::vector<double> values) {
  for (double& value : values) value = std::abs(value);
  return values;
}

double largest(const std::vector<double>& values, const std::string& name) {
  if (values.empty()) throw ParseError("'", escaped(name, 80), "' has no numbers");
  return *std::ranges::max_element(values);
}

// ONNX Runtime writes arrays as {"CLS": "numpy.array", "data": ..., "dtype": ...}.
std::vector<double> array_at(const Json& row, const char* key, const std::string& name) {
  if (!row.contains(key)) {
    throw with(ParseError("'", escaped(name, 80), "' has no '", key, "'"), {.expected = key});
  }
  const Json& value = row.at(key);
  return numbers_of(value.is_object() && value.contains("data") ? value.at("data") : value, name);
}

const Json& ort_rows(const Json& json) {
  return json.contains("CLS") ? object_at(json, "data") : json;
}

// "CalibrationMethod.MinMax", as text or inside {"CLS": ..., "value": ...}.
std::string ort_method(const Json& json) {
  if (!json.contains("calibration_method")) return {};
  const Json& given = json.at("calibration_method");
  std::string text = given.is_object()   ? text_at(given, "value")
                     : given.is_string() ? given.get<std::string>()
                                         : std::string();
  text = text.substr(text.rfind('.') + 1);  // npos + 1 is 0
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

constexpr std::array<const char*, 3> kSteps = {"scale", "step_size", "step"};

const Json* step_of(const Json& row) {
  for (const char* name : kSteps) {
    if (row.contains(name)) return &row.at(name);
  }
  return nullptr;
}

bool is_lsq_row(const Json& row) {
  return row.is_object() && row.contains("qmin") && row.contains("qmax") && step_of(row) != nullptr;
}

int64_t whole_at(const Json& row, const char* key, const std::string& name, int64_t otherwise) {
  if (!row.contains(key) || row.at(key).is_null()) return otherwise;
  const double value = number_of(row.at(key), name);
  if (std::trunc(value) != value || std::abs(value) > 1e9) {
    throw with(ParseError("'", escaped(name, 80), "': ", key, " is ", value),
               {.expected = "a whole number", .got = cat(value)});
  }
  return static_cast<int64_t>(value);
}

// Zero points as many as scales, and the type whose bounds qmin and qmax are.
void set_zero_points(TensorScale& grid, DType dtype, std::vector<double> points) {
  if (points.empty()) points = {0};
  if (points.size() == 1) points.assign(grid.params.scale.size(), points[0]);
  if (points.size() != grid.params.scale.size()) {
    throw CalibrationError("'", escaped(grid.name, 80), "' has ", grid.params.scale.size(),
                           " scales and ", points.size(), " zero points");
  }
  const double low = dtype == DType::u8 ? 0 : -128, high = dtype == DType::u8 ? 255 : 127;
  grid.params.dtype = dtype;
  grid.params.zero_point.clear();
  for (const double point : points) {
    if (!(point >= low && point <= high) || std::trunc(point) != point) {
      throw with(CalibrationError("'", escaped(grid.name, 80), "' has the zero point ", point),
                 {.expected = cat("a whole number from ", low, " to ", high), .got = cat(point)});
    }
    grid.params.zero_point.push_back(static_cast<int32_t>(point));
  }
  if (dtype == DType::u8 || points[0] != 0) {
    grid.threshold = std::numeric_limits<double>::quiet_NaN();  // no symmetric grid
  }
}

}  // namespace

bool is_tao(const ScaleText& file) { return has(file, "tensor_scales"); }

Scales scales_from_tao(const ScaleText& file) {
  Scales out;
  for (const auto& [name, value] : object_at(file.json, "tensor_scales").items()) {
    out.tensors.push_back(from_range(name, number_of(value, name)));
  }
  return out;
}

bool is_cudla(const ScaleText& file) { return has(file, "int8_tensor_scales"); }

Scales scales_from_cudla(const ScaleText& file) {
  Scales out;
  for (const auto& [name, value] : object_at(file.json, "int8_tensor_scales").items()) {
    out.tensors.push_back(from_scale(name, number_of(value, name)));
  }
  if (has(file, "fp16_nodes") && file.json.at("fp16_nodes").is_array()) {
    out.notes.push_back(
        cat(file.json.at("fp16_nodes").size(),
            " nodes are to stay in fp16 (fp16_nodes); layer_precision= says which"));
  }
  return out;
}

bool is_mqbench(const ScaleText& file) { return has(file, "blob_range"); }

// A number for TensorRT, [lowest, highest] for other targets.
Scales scales_from_mqbench(const ScaleText& file) {
  Scales out;
  for (const auto& [name, value] : object_at(file.json, "blob_range").items()) {
    const std::vector<double> ends = numbers_of(value, name);
    out.tensors.push_back(ends.size() == 1 ? from_range(name, ends[0])
                                           : from_range(name, largest(magnitudes(ends), name)));
  }
  return out;
}

bool is_ort_json(const ScaleText& file) {
  if (!file.json.is_object()) return false;
  if (text_at(file.json, "CLS") == "TensorsData") return true;
  return !file.json.empty() && file.json.front().is_object() &&
         text_at(file.json.front(), "CLS") == "TensorData";
}

Scales scales_from_ort_json(const ScaleText& file) {
  Scales out;
  out.method = ort_method(file.json);
  for (const auto& [name, row] : ort_rows(file.json).items()) {
    const double low = largest(magnitudes(array_at(row, "lowest", name)), name);
    const double high = largest(magnitudes(array_at(row, "highest", name)), name);
    out.tensors.push_back(from_range(name, std::max(low, high)));
  }
  return out;
}

bool is_qat_amax(const ScaleText& file) {
  if (!file.json.is_object()) return false;
  for (const auto& item : file.json.items()) {
    if (item.key().ends_with("_amax")) return true;
  }
  return false;
}

Scales scales_from_qat_amax(const ScaleText& file) {
  Scales out;
  size_t others = 0;
  for (const auto& [name, value] : file.json.items()) {
    if (!name.ends_with("_amax")) {
      ++others;
      continue;
    }
    out.tensors.push_back(from_ranges(name, numbers_of(value, name), 0));
  }
  if (out.tensors.empty()) throw ParseError("the file has no name that ends in _amax");
  if (others != 0) out.notes.push_back(cat(others, " entries that are no amax were left out"));
  return out;
}

bool is_lsq(const ScaleText& file) {
  return file.json.is_object() && !file.json.empty() &&
         std::ranges::all_of(file.json, [](const Json& row) { return is_lsq_row(row); });
}

Scales scales_from_lsq(const ScaleText& file) {
  Scales out;
  size_t other_widths = 0;
  for (const auto& [name, row] : file.json.items()) {
    if (!is_lsq_row(row)) {
      throw with(ParseError("'", escaped(name, 80), "' lacks a step size, qmin or qmax"),
                 {.expected = "scale (or step_size, step), qmin, qmax"});
    }
    const int64_t low = whole_at(row, "qmin", name, 0), high = whole_at(row, "qmax", name, 0);
    const bool is_signed = (low == -128 || low == -127) && high == 127;
    if (!is_signed && !(low == 0 && high == 255)) {
      ++other_widths;
      continue;
    }
    TensorScale grid = from_scales(name, numbers_of(*step_of(row), name),
                                   std::max<int64_t>(0, whole_at(row, "axis", name, 0)));
    const auto points =
        row.contains("zero_point") ? numbers_of(row.at("zero_point"), name) : std::vector<double>();
    set_zero_points(grid, is_signed ? DType::s8 : DType::u8, points);
    out.tensors.push_back(std::move(grid));
  }
  if (other_widths != 0) {
    out.notes.push_back(
        cat(other_widths, " entries have other bounds than 8 bits and were left out"));
  }
  return out;
}

bool is_planck(const ScaleText& file) {
  return file.json.is_object() && text_at(file.json, "format") == "planck.scales";
}

Scales scales_from_planck(const ScaleText& file) {
  const Json& json = file.json;
  if (const int64_t version = whole_at(json, "version", "version", 0); version != 1) {
    throw with(VersionError("the scales have format ", version, "; this library reads 1"),
               {.expected = "1", .got = cat(version)});
  }
  Scales out;
  out.kind = text_at(json, "kind");
  out.method = text_at(json, "method");
  out.model_hash = text_at(json, "model_hash");
  if (!json.contains("tensors") || !json.at("tensors").is_array()) {
    throw ParseError("the scales have no list 'tensors'");
  }
  for (const Json& row : json.at("tensors")) {
    const std::string name = text_at(row, "name");
    if (!row.is_object() || !row.contains("name") || !row.contains("scale")) {
      throw ParseError("'", escaped(name, 80), "' has no name or no scale");
    }
    TensorScale grid =
        from_scales(name, numbers_of(row.at("scale"), name), whole_at(row, "axis", name, -1));
    const bool is_unsigned = text_at(row, "dtype") == "u8";
    const auto points =
        row.contains("zero_point") ? numbers_of(row.at("zero_point"), name) : std::vector<double>();
    set_zero_points(grid, is_unsigned ? DType::u8 : DType::s8, points);
    grid.params.axis = whole_at(row, "axis", name, -1);
    const bool known = row.contains("threshold") && row.at("threshold").is_number();
    grid.threshold =
        known ? row.at("threshold").get<double>() : std::numeric_limits<double>::quiet_NaN();
    grid.note = text_at(row, "note");
    out.tensors.push_back(std::move(grid));
  }
  if (json.contains("notes") && json.at("notes").is_array()) {
    for (const Json& note : json.at("notes")) {
      if (note.is_string()) out.notes.push_back(note.get<std::string>());
    }
  }
  return out;
}

}  // namespace planck
