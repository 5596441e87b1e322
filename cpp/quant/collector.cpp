#include "quant/collector.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include "base/error.h"

namespace planck {
namespace {

constexpr size_t kBlock = 2048;              // elements that stay in L1 between two looks at them
constexpr int32_t kMagnitude = 0x7FFFFFFF;   // all but the sign
constexpr int32_t kInfinity = 0x7F800000;    // bits above it are NaN
constexpr uint32_t kSigned = 2 * kBins;      // bins of both signs, positive ones first
constexpr size_t kLanes = 4;                 // a run of equal bins must not wait for its own store
constexpr size_t kSmall = 4096;              // elements for which lanes do not pay
constexpr int64_t kFlushEvery = 1LL << 31U;  // a lane's counter holds 2^32 - 1

int32_t bits_of(float x) { return std::bit_cast<int32_t>(x); }

// Signed integers in the order of the floats, -0 before +0, NaN at both ends.
int32_t order_of(int32_t bits) { return bits ^ ((bits >> 31) & kMagnitude); }
float float_at(int32_t order) { return std::bit_cast<float>(order_of(order)); }

struct BlockFacts {
  int32_t lowest = std::numeric_limits<int32_t>::max();  // order_of
  int32_t highest = std::numeric_limits<int32_t>::min();
  int32_t plus_zeros = 0, minus_zeros = 0;
  bool finite() const { return lowest > order_of(bits_of(-INFINITY)) && highest < kInfinity; }
};

BlockFacts facts_of(const float* x, size_t n) {
  BlockFacts f;
  for (size_t i = 0; i < n; ++i) {
    const int32_t bits = bits_of(x[i]);
    const int32_t order = order_of(bits);
    f.lowest = order < f.lowest ? order : f.lowest;
    f.highest = order > f.highest ? order : f.highest;
    f.plus_zeros += bits == 0 ? 1 : 0;
    f.minus_zeros += bits == std::numeric_limits<int32_t>::min() ? 1 : 0;
  }
  return f;
}

void bins_of(const float* x, size_t n, float factor, uint32_t* bins) {
  for (size_t i = 0; i < n; ++i) {
    const int32_t bits = bits_of(x[i]);
    const auto bin = static_cast<int32_t>(std::bit_cast<float>(bits & kMagnitude) * factor);
    bins[i] = static_cast<uint32_t>(bin) | (static_cast<uint32_t>(bits) >> 31U << kBinBits);
  }
}

int exponent_of(float absmax) {
  if (absmax == 0) return kLowestExponent;
  int exponent = 0;
  std::frexp(absmax, &exponent);  // absmax = f * 2^exponent, f in [0.5, 1)
  return std::clamp(exponent, kLowestExponent, kHighestExponent);
}

// What the bins are after the range was doubled `steps` times.
Bins widened(const Bins& bins, int steps) {
  if (steps == 0 || bins.empty()) return bins;
  Bins out(kBins, 0);
  const int shift = std::min(steps, kBinBits);
  for (size_t j = 0; j < bins.size(); ++j) out[j >> static_cast<unsigned>(shift)] += bins[j];
  return out;
}

void raise_exponent(Histogram& h, int exponent) {
  h.neg = widened(h.neg, exponent - h.exponent);
  h.pos = widened(h.pos, exponent - h.exponent);
  h.exponent = exponent;
}

void add_bins(Bins& into, const Bins& bins) {
  if (bins.empty()) return;
  if (into.empty()) {
    into = bins;
    return;
  }
  for (size_t j = 0; j < bins.size(); ++j) into[j] += bins[j];
}

// By order_of, so that -0 and +0 do not depend on who came first.
void widen_extrema(Histogram& h, float min, float max) {
  if (order_of(bits_of(min)) < order_of(bits_of(h.min))) h.min = min;
  if (order_of(bits_of(max)) > order_of(bits_of(h.max))) h.max = max;
}

// Counters of one call, in several lanes of 32 bits; flushed into the histogram.
class Lanes {
 public:
  explicit Lanes(Histogram& into) : into_(into), lanes_(kLanes * kSigned, 0) {}

  void add(const uint32_t* bins, size_t n) {
    if (pending_ + static_cast<int64_t>(n) > kFlushEvery) flush();
    uint32_t* lane = lanes_.data();
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      ++lane[bins[i]];
      ++lane[bins[i + 1] + kSigned];
      ++lane[bins[i + 2] + 2 * kSigned];
      ++lane[bins[i + 3] + 3 * kSigned];
    }
    for (; i < n; ++i) ++lane[bins[i]];
    pending_ += static_cast<int64_t>(n);
  }

  void flush() {
    if (pending_ == 0) return;
    for (size_t l = 0; l < kLanes; ++l) {
      flush_side(&lanes_[l * kSigned], into_.pos);
      flush_side(&lanes_[l * kSigned + kBins], into_.neg);
    }
    std::ranges::fill(lanes_, 0U);
    pending_ = 0;
  }

 private:
  Histogram& into_;
  std::vector<uint32_t> lanes_;
  int64_t pending_ = 0;

  static void flush_side(const uint32_t* counts, Bins& bins) {
    for (size_t j = 0; j < kBins; ++j) bins[j] += counts[j];
  }
};

// Few elements go straight into the histogram.
struct Direct {
  Histogram& into;
  void add(const uint32_t* bins, size_t n) const {
    for (size_t i = 0; i < n; ++i) {
      Bins& side = bins[i] < kBins ? into.pos : into.neg;
      ++side[bins[i] % kBins];
    }
  }
  void flush() const {}
};

template <class Counters>
class Adder {
 public:
  explicit Adder(Histogram& data) : data_(data), counters_(data) {
    data_.neg.resize(kBins);
    data_.pos.resize(kBins);
  }

  void add(std::span<const float> x) {
    for (size_t i = 0; i < x.size(); i += kBlock) {
      const size_t n = std::min(kBlock, x.size() - i);
      const BlockFacts facts = facts_of(&x[i], n);
      if (facts.finite()) {
        add_finite(&x[i], n, facts);
      } else {
        add_mixed(&x[i], n);
      }
    }
    counters_.flush();
    data_.pos[0] -= plus_zeros_;
    data_.neg[0] -= minus_zeros_;
  }

 private:
  Histogram& data_;
  Counters counters_;
  int64_t plus_zeros_ = 0, minus_zeros_ = 0;  // which bins of 0 hold until the end of the call

  void add_finite(const float* x, size_t n, const BlockFacts& facts) {
    if (n == 0) return;
    data_.count += static_cast<int64_t>(n);
    widen_extrema(data_, float_at(facts.lowest), float_at(facts.highest));
    const int exponent = exponent_of(data_.absmax());
    if (exponent > data_.exponent) {
      counters_.flush();
      raise_exponent(data_, exponent);
    }
    uint32_t bins[kBlock];
    bins_of(x, n, std::ldexp(1.0F, kBinBits - data_.exponent), bins);
    counters_.add(bins, n);
    plus_zeros_ += facts.plus_zeros;
    minus_zeros_ += facts.minus_zeros;
    data_.zeros += facts.plus_zeros + facts.minus_zeros;
  }

  void add_mixed(const float* x, size_t n) {
    float finite[kBlock];
    size_t m = 0;
    for (size_t i = 0; i < n; ++i) {
      if ((bits_of(x[i]) & kMagnitude) < kInfinity) finite[m++] = x[i];
    }
    data_.nonfinite += static_cast<int64_t>(n - m);
    add_finite(finite, m, facts_of(finite, m));
  }
};

// |x| as bits, 0 for NaN and infinities: integers order like the numbers.
int32_t finite_magnitude(float x) {
  const int32_t bits = bits_of(x) & kMagnitude;
  return bits < kInfinity ? bits : 0;
}

// [outer, channels]: largest[c] takes in x[o * channels + c].
void last_axis(std::span<const float> x, std::span<int32_t> largest) {
  const size_t channels = largest.size();
  for (size_t at = 0; at + channels <= x.size(); at += channels) {
    const float* row = &x[at];
    for (size_t c = 0; c < channels; ++c) {
      const int32_t magnitude = finite_magnitude(row[c]);
      largest[c] = magnitude > largest[c] ? magnitude : largest[c];
    }
  }
}

int32_t largest_of(const float* x, size_t n) {
  int32_t largest = 0;
  for (size_t i = 0; i < n; ++i) {
    const int32_t magnitude = finite_magnitude(x[i]);
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

}  // namespace

float Histogram::absmax() const {
  return count == 0 ? 0.0F : std::max(std::abs(min), std::abs(max));
}

double Histogram::bin_width() const { return std::ldexp(1.0, exponent - kBinBits); }

void Collector::add(std::span<const float> x) {
  if (x.size() <= kSmall) {
    Adder<Direct>(data_).add(x);
  } else {
    Adder<Lanes>(data_).add(x);
  }
}

void Collector::add_channels(std::span<const float> x, int64_t channels, int64_t inner) {
  std::vector<int32_t> largest(static_cast<size_t>(channels), 0);
  if (inner == 1) {
    last_axis(x, largest);
  } else if (inner > 0) {
    const auto run = static_cast<size_t>(inner);
    for (size_t i = 0; (i + 1) * run <= x.size(); ++i) {
      int32_t& of_channel = largest[i % largest.size()];
      of_channel = std::max(of_channel, largest_of(&x[i * run], run));
    }
  }
  ChannelRange range;
  for (const int32_t bits : largest) range.absmax.push_back(std::bit_cast<float>(bits));
  merge_channels(range);
}

void Collector::merge_channels(const ChannelRange& other) {
  if (!has_channels_) {
    channels_ = other;
    has_channels_ = true;
    return;
  }
  if (channels_.varied || other.varied || channels_.absmax.size() != other.absmax.size()) {
    channels_ = {{}, true};
    return;
  }
  for (size_t c = 0; c < other.absmax.size(); ++c) {
    channels_.absmax[c] = std::max(channels_.absmax[c], other.absmax[c]);
  }
}

void Collector::merge(const Collector& other) {
  const int exponent = std::max(data_.exponent, other.data_.exponent);
  raise_exponent(data_, exponent);
  const int steps = exponent - other.data_.exponent;
  add_bins(data_.neg, widened(other.data_.neg, steps));
  add_bins(data_.pos, widened(other.data_.pos, steps));
  data_.count += other.data_.count;
  data_.zeros += other.data_.zeros;
  data_.nonfinite += other.data_.nonfinite;
  widen_extrema(data_, other.data_.min, other.data_.max);
  if (other.has_channels_) merge_channels(other.channels_);
}

Collector Collector::of(Histogram data, ChannelRange channels) {
  Collector collector;
  collector.data_ = std::move(data);
  collector.has_channels_ = channels.varied || !channels.absmax.empty();
  collector.channels_ = std::move(channels);
  return collector;
}

void EqualBins::add(std::span<const float> x) {
  const double factor = absmax > 0 ? kEqualBins / static_cast<double>(absmax) : 0;
  for (const float value : x) {
    if (value == 0) ++zeros;
    if (value == 0 || !std::isfinite(value)) continue;
    const double bin = std::abs(static_cast<double>(value)) * factor;
    ++bins[static_cast<size_t>(std::min(bin, kEqualBins - 1.0))];
  }
}

void EqualBins::merge(const EqualBins& other) {
  if (absmax != other.absmax) {
    throw CalibrationError("histograms of 2048 equal bins over [0, ", absmax, "] and [0, ",
                           other.absmax, "] cannot be added");
  }
  zeros += other.zeros;
  for (size_t j = 0; j < bins.size(); ++j) bins[j] += other.bins[j];
}

}  // namespace planck
