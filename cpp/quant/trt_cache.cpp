#include "quant/trt_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <unordered_map>

#include "base/error.h"
#include "base/log.h"
#include "quant/lines.h"

namespace planck {
namespace {

constexpr std::string_view kPrefix = "TRT-";
constexpr std::array<std::string_view, 4> kAlgorithms = {
    "EntropyCalibration", "EntropyCalibration2", "MinMaxCalibration", "LegacyCalibration"};
constexpr int kTenthMajor = 10000;  // from 10.0 on a version counts majors in ten thousands
constexpr size_t kMostDigits = 8;

// Scales outside these bounds are no activations of a network: the thresholds would be below 1e-7
// or above 1e8. Only a hint is made of that, never a decision about the format.
constexpr float kTiny = 1e-9f, kHuge = 1e6f;

std::string version_text(int number) {
  const int major = number < kTenthMajor ? number / 1000 : number / kTenthMajor;
  const int rest = number < kTenthMajor ? number % 1000 : number % kTenthMajor;
  return cat(major, '.', rest / 100, '.', rest % 100);
}

[[noreturn]] void bad_header(std::string_view line) {
  throw with(
      ParseError("this is no calibration cache: its first line is '", escaped(line, 80), "'"),
      {.expected = "TRT-<version>-<algorithm>, such as TRT-8600-EntropyCalibration2",
       .got = escaped(line, 80),
       .hint = "add the header line; a file of ranges or decimal scales is another kind of "
               "scale file (kind=)"});
}

// A float that somebody printed as text, where its bits should stand.
bool is_decimal(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

[[noreturn]] void bad_number(std::string_view text, int64_t line) {
  if (is_decimal(text) || is_decimal(text.substr(0, text.find(' ')))) {
    throw with(ParseError("line ", line, ": '", escaped(text, 40),
                          "' is decimal text; a calibration cache holds the bits of the float32 "
                          "scale as hexadecimal digits"),
               {.expected = "1 to 8 hexadecimal digits",
                .got = escaped(text, 40),
                .hint = "write struct.pack('>f', scale).hex(), with scale = threshold / 127"});
  }
  throw with(ParseError("line ", line, ": '", escaped(text, 40),
                        "' is not 1 to 8 hexadecimal "
                        "digits"),
             {.expected = "1 to 8 hexadecimal digits", .got = escaped(text, 40)});
}

uint32_t bits_of(std::string_view text, int64_t line) {
  std::string_view digits = text;
  if (digits.starts_with("0x") || digits.starts_with("0X")) digits.remove_prefix(2);
  uint32_t bits = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, bits, 16);
  if (digits.empty() || digits.size() > kMostDigits || error != std::errc() || stop != end) {
    bad_number(text, line);
  }
  return bits;
}

bool makes_sense(float scale) { return scale >= kTiny && scale <= kHuge; }

float swapped(float scale) {
  return std::bit_cast<float>(__builtin_bswap32(std::bit_cast<uint32_t>(scale)));
}

bool usable(float scale) { return std::isfinite(scale) && !std::signbit(scale); }

// Whether most numbers make sense only with their bytes the other way round.
bool looks_little_endian(const std::vector<TrtEntry>& entries) {
  size_t counted = 0, reversed = 0;
  for (const TrtEntry& entry : entries) {
    if (entry.scale == 0) continue;
    ++counted;
    reversed += static_cast<size_t>(!makes_sense(entry.scale) && makes_sense(swapped(entry.scale)));
  }
  return reversed * 2 > counted;
}

constexpr const char* kSwapHint =
    "write the digits most significant byte first: struct.pack('>f', scale).hex()";

void check_values(const std::vector<TrtEntry>& entries) {
  if (looks_little_endian(entries)) {
    const auto first = std::ranges::find_if(
        entries, [](const TrtEntry& e) { return e.scale != 0 && !makes_sense(e.scale); });
    throw with(
        CalibrationError("the cache was written in little-endian hexadecimal: the scale of '",
                         escaped(first->name, 80), "' reads ", first->scale, ", and ",
                         swapped(first->scale), " with its bytes the other way round"),
        {.expected = cat(swapped(first->scale)), .got = cat(first->scale), .hint = kSwapHint});
  }
  const auto bad = std::ranges::find_if(entries, [](const auto& e) { return !usable(e.scale); });
  if (bad != entries.end()) {
    throw with(CalibrationError("the scale of '", escaped(bad->name, 80), "' is ", bad->scale),
               {.expected = "a finite scale of at least 0", .got = cat(bad->scale)});
  }
}

// Real caches lie well below: raw pixels, the largest usual values, give a scale of 2. A hint only.
void note_large(TrtCache& cache) {
  constexpr float kLarge = 1.0f;
  const auto large =
      std::ranges::count_if(cache.entries, [](const TrtEntry& e) { return e.scale > kLarge; });
  if (cache.entries.size() < 2 || static_cast<size_t>(large) * 2 <= cache.entries.size()) return;
  cache.notes.push_back(
      cat("most scales are above 1, so most thresholds above 127: if the file was made with ranges "
          "in place of scales, divide them by 127; they were taken as scales"));
}

// Keeps one of several equal lines. CalibrationError where they contradict each other.
void merge_duplicates(TrtCache& cache) {
  std::unordered_map<std::string_view, float> seen;
  std::vector<TrtEntry> kept;
  for (const TrtEntry& entry : cache.entries) {
    const auto [at, is_new] = seen.emplace(entry.name, entry.scale);
    if (!is_new && at->second != entry.scale) {
      throw with(CalibrationError("the cache gives '", escaped(entry.name, 80), "' two scales"),
                 {.expected = cat(at->second), .got = cat(entry.scale)});
    }
    if (is_new) kept.push_back(entry);
  }
  if (const size_t repeated = cache.entries.size() - kept.size(); repeated != 0) {
    cache.notes.push_back(cat(repeated, " lines repeat earlier ones"));
  }
  seen.clear();  // its keys are views of the entries
  cache.entries = std::move(kept);
}

void append_hex(std::string& out, float scale) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto bits = std::bit_cast<uint32_t>(scale);
  for (int shift = 28; shift >= 0; shift -= 4) out += kDigits[(bits >> shift) & 15];
}

}  // namespace

TrtCache read_trt_header(std::string_view line) {
  const size_t dash = line.find('-', kPrefix.size());
  if (!line.starts_with(kPrefix) || dash == std::string_view::npos) bad_header(line);
  const std::string_view digits = line.substr(kPrefix.size(), dash - kPrefix.size());
  int number = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (digits.empty() || error != std::errc() || stop != end || number < 0) bad_header(line);
  const std::string_view algorithm = line.substr(dash + 1);
  if (std::ranges::find(kAlgorithms, algorithm) == kAlgorithms.end()) bad_header(line);
  return {std::string(line), version_text(number), std::string(algorithm), {}, {}};
}

TrtCache read_trt_cache(std::string_view text) {
  Lines lines(text);
  if (!lines.next()) bad_header("");
  TrtCache cache = read_trt_header(lines.line());
  while (lines.next()) {
    const std::string_view line = lines.line();
    const size_t colon = line.rfind(": ");
    if (colon == std::string_view::npos || colon == 0) {
      throw with(
          ParseError("line ", lines.number(), " has no name and scale: '", escaped(line, 80), "'"),
          {.expected = "name: hexadecimal digits", .got = escaped(line, 80)});
    }
    const uint32_t bits = bits_of(trimmed(line.substr(colon + 2)), lines.number());
    cache.entries.push_back({std::string(line.substr(0, colon)), std::bit_cast<float>(bits)});
  }
  check_values(cache.entries);
  merge_duplicates(cache);
  note_large(cache);
  return cache;
}

std::string write_trt_cache(const TrtCache& cache) {
  try {
    read_trt_header(cache.header);
  } catch (const ParseError& e) {
    throw with(UsageError("'", escaped(cache.header, 80), "' is no header of a calibration cache"),
               {.expected = e.fields.expected, .got = e.fields.got});
  }
  std::string out = cache.header + "\n";
  for (const TrtEntry& entry : cache.entries) {
    if (entry.name.empty() || entry.name.find_first_of("\r\n") != std::string::npos) {
      throw UsageError("a calibration cache cannot hold the name '", escaped(entry.name, 80), "'");
    }
    out += entry.name + ": ";
    append_hex(out, entry.scale);
    out += '\n';
  }
  return out;
}

}  // namespace planck
