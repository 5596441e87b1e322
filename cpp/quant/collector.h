#pragma once
// What a tensor holds over a data set: a histogram of |x| whose range is a power of two.
// Goals: merging is exact, so any partition, order or number of threads gives the same counts;
// memory does not grow with the data; at least 2 GB/s of activations a core.
// Non-goals: shapes (lengths may vary from call to call), statistics per sample.
//
// |x| * 2^(12 - exponent) is exact in float32, and doubling the range adds bins in pairs:
// floor(floor(y) / 2) = floor(y / 2).
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace planck {

inline constexpr int kBinBits = 12;
inline constexpr int kBins = 1 << kBinBits;
// Beyond these 2^(12 - exponent) is no float32. Smaller values fall into low bins.
inline constexpr int kLowestExponent = -115, kHighestExponent = 128;

using Bins = std::vector<int64_t>;  // empty or kBins

struct Histogram {
  int64_t count = 0;      // finite elements, zeros included
  int64_t zeros = 0;      // +0 and -0, which are in no bin
  int64_t nonfinite = 0;  // NaN and infinities, which are nowhere else
  float min = std::numeric_limits<float>::infinity();
  float max = -std::numeric_limits<float>::infinity();
  int exponent = kLowestExponent;  // |x| < 2^exponent
  Bins neg, pos;                   // bin j: floor(|x| * 2^(12 - exponent)) == j
  bool operator==(const Histogram&) const = default;

  float absmax() const;  // 0 where nothing was seen
  double bin_width() const;
};

// The largest |x| of each channel. `varied`: lengths differed, so there are no channels.
struct ChannelRange {
  std::vector<float> absmax;
  bool varied = false;
  bool operator==(const ChannelRange&) const = default;
};

class Collector {
 public:
  void add(std::span<const float> x);
  // Row-major [outer, channels, inner], added to the channels' ranges only.
  void add_channels(std::span<const float> x, int64_t channels, int64_t inner);
  // Associative and commutative, bit for bit.
  void merge(const Collector& other);

  const Histogram& histogram() const { return data_; }
  const ChannelRange& channels() const { return channels_; }
  bool operator==(const Collector&) const = default;

  // From a file, whose reader has checked both.
  static Collector of(Histogram data, ChannelRange channels);

 private:
  Histogram data_;
  ChannelRange channels_;
  bool has_channels_ = false;

  void merge_channels(const ChannelRange& other);
};

// Equal bins over [0, absmax], for scales that have to agree with other tools' caches. A second
// pass over the data: absmax has to be known before.
inline constexpr int kEqualBins = 2048;
struct EqualBins {
  float absmax = 0;
  int64_t zeros = 0;  // in no bin
  std::array<int64_t, kEqualBins> bins{};
  bool operator==(const EqualBins&) const = default;

  void add(std::span<const float> x);  // NaN and infinities are left out
  // CalibrationError for another range.
  void merge(const EqualBins& other);
};

}  // namespace planck
