// Text formats: TensorRT's cache, sampleINT8API's ranges, ONNX Runtime's calibration.cache.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "quant/lines.h"
#include "quant/scale_reader.h"
#include "quant/trt_cache.h"

namespace planck {
namespace {

struct NamedValue {
  std::string name;
  double value = 0;
};

std::optional<double> decimal(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

// The two sides of the last separator of a line; nothing where the right one is no number.
std::optional<NamedValue> split_line(std::string_view line, std::string_view separator) {
  const size_t at = line.rfind(separator);
  if (at == std::string_view::npos || at == 0) return {};
  const std::optional<double> value = decimal(trimmed(line.substr(at + separator.size())));
  if (!value) return {};
  return NamedValue{std::string(line.substr(0, at)), *value};
}

// "x: 1" is sampleINT8API's, "x 1" ONNX Runtime's.
bool all_lines(std::string_view text, std::string_view separator) {
  Lines lines(text);
  if (!lines.next()) return false;
  do {
    if (!split_line(lines.line(), separator)) return false;
  } while (lines.next());
  return true;
}

std::vector<NamedValue> named_values(std::string_view text, std::string_view separator) {
  std::vector<NamedValue> out;
  std::map<std::string, double, std::less<>> seen;
  for (Lines lines(text); lines.next();) {
    std::optional<NamedValue> row = split_line(lines.line(), separator);
    if (!row) {
      throw with(ParseError("line ", lines.number(), " is no name and number: '",
                            escaped(lines.line(), 80), "'"),
                 {.expected = cat("name", separator, "number"), .got = escaped(lines.line(), 80)});
    }
    const auto [at, is_new] = seen.emplace(row->name, row->value);
    if (!is_new && at->second != row->value) {
      throw with(CalibrationError("the file gives '", escaped(row->name, 80), "' two ranges"),
                 {.expected = cat(at->second), .got = cat(row->value)});
    }
    if (is_new) out.push_back(std::move(*row));
  }
  if (out.empty()) throw ParseError("the file has no ranges");
  return out;
}

std::string method_of(std::string_view algorithm) {
  if (algorithm.starts_with("Entropy")) return "entropy";
  return algorithm.starts_with("MinMax") ? "minmax" : "legacy";
}

// TensorRT numbers the layers that have no name; its constants are such layers.
bool is_unnamed(const std::string& name) { return name.starts_with("(Unnamed Layer"); }

}  // namespace

bool is_trt_cache(const ScaleText& file) {
  Lines lines(file.text);
  return lines.next() && lines.line().starts_with("TRT-");
}

Scales scales_from_trt_cache(const ScaleText& file) {
  const TrtCache cache = read_trt_cache(file.text);
  Scales out;
  out.method = method_of(cache.algorithm);
  out.notes = cache.notes;
  out.notes.push_back(cat("written by TensorRT ", cache.version, ", ", cache.algorithm));
  size_t unnamed = 0, dead = 0;
  for (const TrtEntry& entry : cache.entries) {
    if (is_unnamed(entry.name)) {
      ++unnamed;
      continue;
    }
    dead += static_cast<size_t>(entry.scale == 0);
    out.tensors.push_back(entry.scale == 0 ? from_range(entry.name, 0)
                                           : from_scale(entry.name, entry.scale));
  }
  if (unnamed != 0) {
    out.notes.push_back(cat(unnamed, " entries of unnamed layers and constants were left out"));
  }
  if (dead != 0) {
    out.notes.push_back(cat(dead, " tensors have the scale 0: they were all zeros in the data"));
  }
  return out;
}

bool is_sample_int8(const ScaleText& file) { return all_lines(file.text, ": "); }

Scales scales_from_sample_int8(const ScaleText& file) {
  Scales out;
  for (const NamedValue& row : named_values(file.text, ": ")) {
    out.tensors.push_back(from_range(row.name, row.value));
  }
  return out;
}

bool is_ort_text(const ScaleText& file) { return all_lines(file.text, " "); }

Scales scales_from_ort_text(const ScaleText& file) {
  Scales out;
  size_t negative = 0;
  for (const NamedValue& row : named_values(file.text, " ")) {
    negative += static_cast<size_t>(row.value < 0);
    out.tensors.push_back(from_range(row.name, std::abs(row.value)));
  }
  out.notes.emplace_back(
      "its writer keeps the larger of highest and lowest value without their signs, so that "
      "[-5, 1] is written as 1: where negative values reach further than positive ones the range "
      "is too small; calibration.json has both ends");
  if (negative != 0)
    out.notes.push_back(cat(negative, " ranges are negative: their size was taken"));
  return out;
}

}  // namespace planck
