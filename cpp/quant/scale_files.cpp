#include "quant/scale_files.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/utf8.h"
#include "quant/lines.h"
#include "quant/scale_reader.h"
#include "quant/trt_cache.h"

namespace planck {
namespace {

struct Row {
  ScaleFormat format;
  bool (*is)(const ScaleText& file);
  Scales (*read)(const ScaleText& file);
};

constexpr std::array kRows = {
#define PLANCK_SCALE_FORMAT(kind, content) Row{{#kind, content}, is_##kind, scales_from_##kind},
#include "quant/scale_formats.inc"
#undef PLANCK_SCALE_FORMAT
};

void check_utf8(std::string_view text) {
  for (std::string_view left = text; !left.empty();) {
    const size_t size = utf8_sequence(left);
    if (size == 0) {
      throw ParseError("byte ", text.size() - left.size(), " of the scale file is not UTF-8");
    }
    left.remove_prefix(size);
  }
}

// What the first character says: a JSON file begins with a brace, no text format does.
ScaleText opened(std::string_view text) {
  check_utf8(text);
  if (text.find('\0') != std::string_view::npos) {
    throw ParseError("the file is binary; scale files of this kind are text");
  }
  Lines lines(text);
  if (!lines.next()) throw ParseError("the scale file is empty");
  ScaleText file{text, nullptr};
  if (trimmed(lines.line()).starts_with('{')) file.json = parse_json(text.substr(text.find('{')));
  return file;
}

std::string kinds() {
  std::vector<std::string_view> names;
  for (const Row& row : kRows) names.push_back(row.format.kind);
  return joined(names);
}

// A cache whose first line got lost looks like ranges, except that its digits are hexadecimal.
[[noreturn]] void unknown(const ScaleText& file) {
  Lines lines(file.text);
  lines.next();
  const std::string_view line = lines.line();
  const size_t colon = line.rfind(": ");
  const bool is_line = file.json.is_null() && colon != std::string_view::npos;
  throw with(
      ParseError("this is no scale file that is known"),
      {.expected = kinds(),
       .got = escaped(line, 80),
       .hint = is_line ? "a calibration cache of TensorRT begins with a line such as "
                         "TRT-8600-EntropyCalibration2, which is missing"
                       : "kind= names the format, and the error then says what does not fit"});
}

const Row& row_of(const ScaleText& file) {
  const auto* row = std::ranges::find_if(kRows, [&](const Row& r) { return r.is(file); });
  if (row == kRows.end()) unknown(file);
  return *row;
}

const Row& row_named(const std::string& kind) {
  const auto* row = std::ranges::find(kRows, kind, [](const Row& r) { return r.format.kind; });
  if (row != kRows.end()) return *row;
  throw with(UsageError("no scale file has the kind '", escaped(kind, 40), "'"),
             {.expected = cat("auto, ", kinds()), .got = escaped(kind, 40)});
}

void check_names(const Scales& scales) {
  std::set<std::string_view> names;
  for (const TensorScale& tensor : scales.tensors) {
    if (!names.insert(tensor.name).second) {
      throw CalibrationError("the file gives '", escaped(tensor.name, 80), "' two grids");
    }
  }
}

// The symmetric scale that holds a grid: exact where it is symmetric already.
float trt_scale(const TensorScale& tensor) {
  const float scale = tensor.params.scale[0];
  const int32_t point = tensor.params.zero_point[0];
  if (tensor.threshold == 0) return 0;
  if (tensor.params.dtype == DType::s8 && point == 0) return scale;
  const int32_t low = tensor.params.dtype == DType::u8 ? 0 : -128;
  const double reach = std::max(point - low, low + 255 - point);
  return static_cast<float>(reach * scale / 127.0);
}

}  // namespace

const std::vector<ScaleFormat>& scale_formats() {
  static const std::vector<ScaleFormat> all = [] {
    std::vector<ScaleFormat> out;
    for (const Row& row : kRows) out.push_back(row.format);
    return out;
  }();
  return all;
}

std::string scale_kind(std::string_view text) {
  return std::string(row_of(opened(text)).format.kind);
}

Scales read_scales(std::string_view text, const std::string& kind) {
  const Row* named = kind == "auto" ? nullptr : &row_named(kind);
  const ScaleText file = opened(text);
  const Row& row = named != nullptr ? *named : row_of(file);
  Scales out = row.read(file);
  check_names(out);
  if (!out.kind.empty()) return out;  // our own, which says all this itself
  out.kind = row.format.kind;
  out.notes.insert(out.notes.begin(), cat(named != nullptr ? "read as " : "taken for ",
                                          row.format.kind, ": ", row.format.content));
  return out;
}

Scales read_scales_file(const std::string& path, const std::string& kind) {
  const Bytes bytes = read_file(path, kMostScaleBytes, "scale_bytes", path);
  const auto* text = reinterpret_cast<const char*>(bytes.span.data());
  return with_context(
      [&] {
        return read_scales({text, bytes.span.size()}, kind);
      },
      "the scale file ", path);
}

std::string scales_to_trt_cache(const Scales& scales, const std::string& header) {
  TrtCache cache;
  cache.header = header;
  for (const TensorScale& tensor : scales.tensors) {
    if (tensor.params.scale.size() != 1) continue;
    cache.entries.push_back({tensor.name, trt_scale(tensor)});
  }
  return write_trt_cache(cache);
}

}  // namespace planck
