// AIMET's encodings: real = scale * (q + offset), q from 0 to 2^bitwidth - 1.
//   0.x  activation_encodings and param_encodings: {name: [{scale, offset, bitwidth, ...}]}; the
//        flavour for PyTorch puts {input: {index: encoding}, output: {...}} under a layer's name
//   1.0  the same two as lists of {name, scale: [...], offset: [...], bw, dtype, is_sym}
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "quant/scale_reader.h"

namespace planck {
namespace {

constexpr std::array<const char*, 2> kGroups = {"activation_encodings", "param_encodings"};

struct Counts {
  size_t other_types = 0, by_layer = 0;
};

bool truth(const Json& value) {
  return value.is_boolean() ? value.get<bool>()
                            : value.is_string() && (value == "True" || value == "true");
}

const Json* first_of(const Json& row, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (row.contains(name)) return &row.at(name);
  }
  return nullptr;
}

struct Encoding {
  std::vector<double> scales, offsets;
  double bits = 8;
  bool symmetric = false, integer = true;
};

void append(const Json& row, const std::string& name, Encoding& out) {
  const Json* scale = row.is_object() ? first_of(row, {"scale"}) : nullptr;
  const Json* offset = row.is_object() ? first_of(row, {"offset"}) : nullptr;
  if (row.is_object()) {
    if (const Json* bits = first_of(row, {"bitwidth", "bw"})) out.bits = number_of(*bits, name);
    if (const Json* type = first_of(row, {"dtype"}); type != nullptr && type->is_string()) {
      out.integer = *type == "int" || *type == "INT";
    }
    if (const Json* flag = first_of(row, {"is_symmetric", "is_sym"})) out.symmetric = truth(*flag);
  }
  if (!out.integer || out.bits != 8) return;
  if (scale == nullptr) {
    throw with(ParseError("the encoding of '", escaped(name, 80), "' has no scale"),
               {.expected = "scale, offset, bitwidth"});
  }
  const std::vector<double> scales = numbers_of(*scale, name);
  std::vector<double> offsets;
  if (offset != nullptr && !offset->is_null()) offsets = numbers_of(*offset, name);
  if (offsets.empty()) offsets.assign(scales.size(), out.symmetric ? -128 : 0);
  if (offsets.size() == 1) offsets.assign(scales.size(), offsets[0]);
  out.scales.insert(out.scales.end(), scales.begin(), scales.end());
  out.offsets.insert(out.offsets.end(), offsets.begin(), offsets.end());
}

// A symmetric grid has its offset in the middle, -128 (or -127 where it leaves out the lowest
// value), and is s8 without a zero point; any other is u8 with the zero point -offset.
TensorScale grid_of(const std::string& name, const Encoding& encoding) {
  TensorScale grid = from_scales(name, encoding.scales, 0);
  const auto middle = [](double offset) { return offset == -128 || offset == -127; };
  if (encoding.scales.size() != encoding.offsets.size()) {
    throw CalibrationError("'", escaped(name, 80), "' has ", encoding.scales.size(), " scales and ",
                           encoding.offsets.size(), " offsets");
  }
  if (encoding.symmetric && std::ranges::all_of(encoding.offsets, middle)) return grid;
  grid.params.dtype = DType::u8;
  grid.threshold = std::numeric_limits<double>::quiet_NaN();
  for (size_t i = 0; i < encoding.offsets.size(); ++i) {
    const double point = -encoding.offsets[i];
    if (!(point >= 0 && point <= 255) || std::trunc(point) != point) {
      throw with(CalibrationError("'", escaped(name, 80), "' has the offset ", -point),
                 {.expected = "a whole number from -255 to 0", .got = cat(-point)});
    }
    grid.params.zero_point[i] = static_cast<int32_t>(point);
  }
  return grid;
}

void add(const std::string& name, const Json& rows, Scales& out, Counts& counts) {
  if (rows.is_object() && (rows.contains("input") || rows.contains("output"))) {
    ++counts.by_layer;
    return;
  }
  Encoding encoding;
  if (rows.is_array()) {
    for (const Json& row : rows) append(row, name, encoding);
  } else {
    append(rows, name, encoding);
  }
  if (!encoding.integer || encoding.bits != 8) {
    ++counts.other_types;
    return;
  }
  out.tensors.push_back(grid_of(name, encoding));
}

void add_group(const Json& group, Scales& out, Counts& counts) {
  if (group.is_object()) {
    for (const auto& [name, rows] : group.items()) add(name, rows, out, counts);
    return;
  }
  if (!group.is_array()) throw ParseError("AIMET's encodings are neither an object nor a list");
  for (const Json& row : group) {
    if (!row.is_object() || !row.contains("name") || !row.at("name").is_string()) {
      throw ParseError("one of AIMET's encodings has no name");
    }
    add(row.at("name").get<std::string>(), row, out, counts);
  }
}

}  // namespace

bool is_aimet(const ScaleText& file) {
  return file.json.is_object() &&
         std::ranges::any_of(kGroups, [&](const char* name) { return file.json.contains(name); });
}

Scales scales_from_aimet(const ScaleText& file) {
  Scales out;
  Counts counts;
  if (!is_aimet(file)) {
    throw with(ParseError("the file has neither activation_encodings nor param_encodings"),
               {.expected = "activation_encodings, param_encodings"});
  }
  for (const char* name : kGroups) {
    if (file.json.contains(name)) add_group(file.json.at(name), out, counts);
  }
  if (counts.other_types != 0) {
    out.notes.push_back(
        cat(counts.other_types, " encodings are no integers of 8 bits and were left out"));
  }
  if (counts.by_layer != 0) {
    out.notes.push_back(cat(counts.by_layer,
                            " encodings are named by PyTorch's layers, not by tensors, and were "
                            "left out: export the encodings for ONNX"));
  }
  return out;
}

}  // namespace planck
