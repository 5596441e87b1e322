// The calibration file. Little-endian, version 1:
//   prefix  48 bytes: magic, version, a zero word, bytes of the header, bytes of the body, XXH3-128
//           of header and body
//   header  JSON: what was done, and the tensors in the model's order with their lengths in the
//   body body    for each tensor: count, zeros, nonfinite (int64); min, max (float32); exponent
//   (int32),
//           a zero word; bins of the negative and of the positive side (int64, as many as are in
//           use); channel ranges (float32, padded to 8 bytes); and after a second pass its absmax
//           (float32), a zero word, zeros and 2048 bins (int64)
#define XXH_INLINE_ALL  // header only: nothing to link
#include <xxhash.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/fields.h"
#include "quant/calibration.h"

namespace planck {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie");

constexpr std::string_view kMagic = "\x89PLKCAL\n";
constexpr size_t kPrefix = 48;
constexpr int64_t kFileLimit = int64_t{4} << 30;

struct Prefix {
  char magic[8];
  uint32_t version;
  uint32_t zero;
  uint64_t header_bytes, body_bytes;
  uint64_t hash_low, hash_high;
};
static_assert(sizeof(Prefix) == kPrefix);

void expect(bool holds, const auto&... what) {
  if (!holds) throw CorruptError("the calibration file is damaged: ", what...);
}

// --- writing ---

class Body {
 public:
  template <class T>
  void put(const T& value) {
    const auto* bytes = reinterpret_cast<const char*>(&value);
    bytes_.append(bytes, sizeof(T));
  }
  template <class T>
  void put(std::span<const T> values) {
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  void pad() { bytes_.resize((bytes_.size() + 7) / 8 * 8); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

std::span<const int64_t> used(const Bins& bins) {
  size_t n = bins.size();
  while (n > 0 && bins[n - 1] == 0) --n;
  return {bins.data(), n};
}

void put_tensor(const TensorStatistics& t, Body& body) {
  const Histogram& h = t.collector.histogram();
  body.put(h.count);
  body.put(h.zeros);
  body.put(h.nonfinite);
  body.put(h.min);
  body.put(h.max);
  body.put<int32_t>(h.exponent);
  body.put<int32_t>(0);
  body.put(used(h.neg));
  body.put(used(h.pos));
  body.put(std::span<const float>(t.collector.channels().absmax));
  body.pad();
  if (!t.equal) return;
  body.put(t.equal->absmax);
  body.put<int32_t>(0);
  body.put(t.equal->zeros);
  body.put(std::span<const int64_t>(t.equal->bins));
}

Json tensor_json(const TensorStatistics& t) {
  const Histogram& h = t.collector.histogram();
  return {{"name", t.name},
          {"group", t.group},
          {"channels", t.channels},
          {"axis", t.axis},
          {"neg_bins", used(h.neg).size()},
          {"pos_bins", used(h.pos).size()},
          {"channel_ranges", t.collector.channels().absmax.size()},
          {"channels_varied", t.collector.channels().varied},
          {"equal", t.equal.has_value()}};
}

Json facts_json(const CalibrationFacts& f) {
  return {{"engine", PLANCK_VERSION},
          {"model_hash", f.model_hash},
          {"method", f.solve.method},
          {"percentile", f.solve.percentile},
          {"zero_policy", f.solve.zero_policy},
          {"nonfinite", f.nonfinite},
          {"exact", f.exact},
          {"samples", f.samples},
          {"batches", f.batches},
          {"bytes", f.bytes},
          {"skipped", f.skipped}};
}

XXH128_hash_t hash_of(std::string_view header, std::string_view body) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, header.data(), header.size());
  XXH3_128bits_update(&state, body.data(), body.size());
  return XXH3_128bits_digest(&state);
}

// --- reading ---

class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class T>
  T take() {
    T value;
    std::memcpy(&value, piece(sizeof(T)), sizeof(T));
    return value;
  }
  template <class T>
  std::vector<T> take(size_t count) {
    expect(count <= bytes_.size() / sizeof(T), "a tensor is longer than the file");
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), piece(count * sizeof(T)), count * sizeof(T));
    return values;
  }
  void align() { piece((8 - at_ % 8) % 8); }
  bool done() const { return at_ == bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;

  const std::byte* piece(size_t size) {
    expect(size <= bytes_.size() - at_, "it ends inside a tensor");
    const std::byte* here = bytes_.data() + at_;
    at_ += size;
    return here;
  }
};

template <class T>
T field(const Json& json, const char* name) {
  const auto at = json.find(name);
  expect(at != json.end(), "its header lacks '", name, "'");
  try {
    return at->get<T>();
  } catch (const Json::exception&) {
    throw CorruptError("the calibration file is damaged: '", name, "' has the wrong type");
  }
}

Bins take_bins(Cursor& body, int64_t count) {
  expect(count >= 0 && count <= kBins, count, " bins of a side");
  Bins bins = body.take<int64_t>(static_cast<size_t>(count));
  bins.resize(kBins, 0);
  return bins;
}

// The bin of an extremum is the outermost one in use.
void check_outermost(const Histogram& h, const Bins& bins, float extremum) {
  const size_t expected =
      extremum > 0
          ? static_cast<size_t>(std::ldexp(static_cast<double>(extremum), kBinBits - h.exponent)) +
                1
          : 0;
  expect(used(bins).size() == expected, "its bins and its extrema disagree");
}

void check_histogram(const Histogram& h) {
  expect(h.count >= 0 && h.zeros >= 0 && h.nonfinite >= 0, "a count is negative");
  expect(h.exponent >= kLowestExponent && h.exponent <= kHighestExponent, "an exponent of ",
         h.exponent);
  if (h.count > 0) {
    expect(std::isfinite(h.min) && std::isfinite(h.max) && h.min <= h.max, "its extrema");
    expect(std::ldexp(static_cast<double>(h.absmax()), -h.exponent) < 1, "its range");
  }
  int64_t left = h.count - h.zeros;
  for (const Bins* side : {&h.neg, &h.pos}) {
    for (const int64_t bin : *side) {
      expect(bin >= 0 && bin <= left, "its bins and its count disagree");
      left -= bin;
    }
  }
  expect(left == 0, "its bins and its count disagree");
  check_outermost(h, h.pos, h.count > 0 ? h.max : 0);
  check_outermost(h, h.neg, h.count > 0 ? -h.min : 0);
}

Histogram take_histogram(const Json& json, Cursor& body) {
  Histogram h;
  h.count = body.take<int64_t>();
  h.zeros = body.take<int64_t>();
  h.nonfinite = body.take<int64_t>();
  h.min = body.take<float>();
  h.max = body.take<float>();
  h.exponent = body.take<int32_t>();
  body.take<int32_t>();
  h.neg = take_bins(body, field<int64_t>(json, "neg_bins"));
  h.pos = take_bins(body, field<int64_t>(json, "pos_bins"));
  check_histogram(h);
  return h;
}

ChannelRange take_channels(const Json& json, Cursor& body) {
  const auto count = field<int64_t>(json, "channel_ranges");
  expect(count >= 0, "a negative number of channels");
  ChannelRange range{body.take<float>(static_cast<size_t>(count)),
                     field<bool>(json, "channels_varied")};
  body.align();
  for (const float absmax : range.absmax) {
    expect(std::isfinite(absmax) && absmax >= 0, "a channel's range is ", absmax);
  }
  return range;
}

EqualBins take_equal(Cursor& body) {
  EqualBins equal;
  equal.absmax = body.take<float>();
  body.take<int32_t>();
  equal.zeros = body.take<int64_t>();
  const std::vector<int64_t> bins = body.take<int64_t>(kEqualBins);
  std::ranges::copy(bins, equal.bins.begin());
  expect(std::isfinite(equal.absmax) && equal.absmax >= 0, "the range of its equal bins");
  int64_t sum = equal.zeros;
  expect(sum >= 0, "a count is negative");
  for (const int64_t bin : bins) {
    expect(bin >= 0 && !__builtin_add_overflow(sum, bin, &sum), "its equal bins");
  }
  return equal;
}

TensorStatistics take_tensor(const Json& json, Cursor& body) {
  TensorStatistics t;
  t.name = field<std::string>(json, "name");
  t.group = field<int64_t>(json, "group");
  t.channels = field<bool>(json, "channels");
  t.axis = field<int64_t>(json, "axis");
  Histogram histogram = take_histogram(json, body);
  t.collector = Collector::of(std::move(histogram), take_channels(json, body));
  if (field<bool>(json, "equal")) t.equal = take_equal(body);
  return t;
}

CalibrationFacts facts_from(const Json& json) {
  CalibrationFacts f;
  f.engine = field<std::string>(json, "engine");
  f.model_hash = field<std::string>(json, "model_hash");
  f.solve.method = field<std::string>(json, "method");
  f.solve.percentile = field<double>(json, "percentile");
  f.solve.zero_policy = field<std::string>(json, "zero_policy");
  f.nonfinite = field<std::string>(json, "nonfinite");
  f.exact = field<bool>(json, "exact");
  f.samples = field<int64_t>(json, "samples");
  f.batches = field<int64_t>(json, "batches");
  f.bytes = field<int64_t>(json, "bytes");
  f.skipped = field<std::vector<std::string>>(json, "skipped");
  return f;
}

Json header_json(std::string_view header) {
  Json json = Json::parse(header, nullptr, false);
  expect(json.is_object(), "its header is no JSON object");
  return json;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

void write_calibration(const Calibration& calibration, const ByteSink& sink) {
  Body body;
  Json header = facts_json(calibration.facts);
  header["tensors"] = Json::array();
  for (const TensorStatistics& t : calibration.tensors) {
    put_tensor(t, body);
    header["tensors"].push_back(tensor_json(t));
  }
  const std::string text = header.dump(-1, ' ', true, Json::error_handler_t::replace);
  const XXH128_hash_t hash = hash_of(text, body.bytes());
  Prefix prefix{{},         kCalibrationVersion, 0, text.size(), body.bytes().size(),
                hash.low64, hash.high64};
  kMagic.copy(prefix.magic, sizeof(prefix.magic));
  sink(std::as_bytes(std::span(&prefix, 1)));
  sink(std::as_bytes(std::span(text)));
  sink(std::as_bytes(std::span(body.bytes())));
}

Calibration read_calibration(std::span<const std::byte> bytes) {
  if (!text_of(bytes).starts_with(kMagic)) {
    throw CorruptError("this is not a calibration of Planck: it does not begin with the magic");
  }
  expect(bytes.size() >= kPrefix, "it ends after ", bytes.size(), " bytes");
  Prefix prefix;
  std::memcpy(&prefix, bytes.data(), kPrefix);
  if (prefix.version != kCalibrationVersion) {
    throw with(VersionError("the calibration file has format ", prefix.version,
                            "; this Planck reads ", kCalibrationVersion),
               {.expected = cat(kCalibrationVersion), .got = cat(prefix.version)});
  }
  expect(prefix.zero == 0, "a word that is zero is not");
  const size_t rest = bytes.size() - kPrefix;
  expect(prefix.header_bytes <= rest && prefix.body_bytes == rest - prefix.header_bytes,
         "its parts do not fill its ", bytes.size(), " bytes");
  const auto header = bytes.subspan(kPrefix, prefix.header_bytes);
  const auto body = bytes.subspan(kPrefix + prefix.header_bytes);
  const XXH128_hash_t hash = hash_of(text_of(header), text_of(body));
  expect(hash.low64 == prefix.hash_low && hash.high64 == prefix.hash_high,
         "its checksum does not hold");
  const Json json = header_json(text_of(header));
  Calibration calibration;
  calibration.facts = facts_from(json);
  Cursor cursor(body);
  for (const Json& tensor : field<std::vector<Json>>(json, "tensors")) {
    calibration.tensors.push_back(take_tensor(tensor, cursor));
  }
  expect(cursor.done(), "bytes after its last tensor");
  return calibration;
}

void save_calibration(const Calibration& calibration, const std::string& path) {
  write_atomically(path, [&](const ByteSink& sink) { write_calibration(calibration, sink); });
}

Calibration load_calibration(const std::string& path) {
  const Bytes bytes = read_file(path, kFileLimit, "calibration file", path);
  return with_context([&] { return read_calibration(bytes.span); }, "load of ", path);
}

}  // namespace planck
