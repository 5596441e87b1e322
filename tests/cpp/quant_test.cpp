// Statistics and thresholds: exact merging, the closed form of the divergence against its
// definition, what scaling and degenerate data do to thresholds, and the file.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/nearest.h"
#include "quant/calibration.h"

namespace planck {
namespace {

using Floats = std::vector<float>;

Floats normal(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss(0, scale);
  Floats x(n);
  for (float& v : x) v = gauss(random);
  return x;
}

// Every kind of number that a histogram has to place.
Floats awkward(size_t n, uint32_t seed) {
  Floats x = normal(n, seed);
  std::mt19937 random(seed + 1);
  const Floats special = {0.0F,    -0.0F,    1e-45F, -1e-40F, 1.17549435e-38F,
                          3.4e38F, -2.5e30F, 1.0F,   -4};
  for (size_t i = 0; i < n; i += 1 + random() % 9) x[i] = special[random() % special.size()];
  return x;
}

Collector collected(std::span<const float> x) {
  Collector c;
  c.add(x);
  return c;
}

// Bin by bin as the definition says, in double.
Histogram by_definition(std::span<const float> x) {
  Histogram h;
  h.neg.resize(kBins);
  h.pos.resize(kBins);
  for (const float v : x) {
    if (!std::isfinite(v)) {
      ++h.nonfinite;
      continue;
    }
    ++h.count;
    if (v < h.min || (v == h.min && std::signbit(v))) h.min = v;
    if (v > h.max || (v == h.max && !std::signbit(v))) h.max = v;
  }
  while (h.absmax() >= std::ldexp(1.0, h.exponent)) ++h.exponent;
  for (const float v : x) {
    if (!std::isfinite(v)) continue;
    if (v == 0) {
      ++h.zeros;
    } else {
      Bins& side = std::signbit(v) ? h.neg : h.pos;
      ++side[static_cast<size_t>(
          std::floor(std::ldexp(std::abs(static_cast<double>(v)), kBinBits - h.exponent)))];
    }
  }
  return h;
}

TEST(Collector, IsWhatTheDefinitionSays) {
  for (const size_t n : {1UL, 7UL, 2048UL, 2049UL, 5000UL, 100000UL}) {
    Floats x = awkward(n, static_cast<uint32_t>(n));
    EXPECT_TRUE(collected(x).histogram() == by_definition(x)) << n;
    x[n / 2] = NAN;
    x[n / 3] = -INFINITY;
    EXPECT_TRUE(collected(x).histogram() == by_definition(x)) << n;
    for (float& v : x) v = std::isfinite(v) ? std::ldexp(v, -130) : v;  // denormals
    EXPECT_TRUE(collected(x).histogram() == by_definition(x)) << n;
  }
}

TEST(Collector, DoesNotDependOnPartitionOrOrder) {
  Floats x = awkward(64 * 311, 5);
  std::fill_n(x.begin() + 311, 622, -0.0F);  // shards without a magnitude
  const Collector whole = collected(x);
  std::mt19937 random(6);
  for (const size_t shards : {1UL, 2UL, 7UL, 64UL}) {
    std::vector<Collector> parts;
    for (size_t s = 0; s < shards; ++s) {
      const size_t from = x.size() * s / shards, to = x.size() * (s + 1) / shards;
      Collector& part = parts.emplace_back();
      for (size_t i = from; i < to;) {  // batches of any size
        const size_t n = std::min<size_t>(1 + random() % 5000, to - i);
        part.add(std::span(x).subspan(i, n));
        i += n;
      }
    }
    std::ranges::shuffle(parts, random);
    while (parts.size() > 1) {  // a tree
      parts[random() % (parts.size() - 1)].merge(parts.back());
      parts.pop_back();
    }
    EXPECT_TRUE(parts[0] == whole) << shards;
  }
}

TEST(Collector, DoublingTheDataShiftsTheExponent) {
  const Floats x = normal(20000, 1);
  const Histogram before = collected(x).histogram();
  for (const int k : {-100, -3, 1, 90}) {
    Floats y = x;
    for (float& v : y) v = std::ldexp(v, k);
    const Histogram after = collected(y).histogram();
    EXPECT_EQ(after.exponent, before.exponent + k);
    EXPECT_EQ(after.pos, before.pos);
    EXPECT_EQ(after.neg, before.neg);
  }
}

TEST(Collector, RangesOfChannels) {
  const Floats x = {1, -5, 2, -3, NAN, 4};
  Collector last;
  last.add_channels(x, 3, 1);
  EXPECT_EQ(last.channels().absmax, (Floats{3, 5, 4}));
  Collector middle;  // [1, 3, 2]
  middle.add_channels(x, 3, 2);
  EXPECT_EQ(middle.channels().absmax, (Floats{5, 3, 4}));
  last.add_channels(Floats{9, 0}, 2, 1);
  EXPECT_TRUE(last.channels().varied);
  last.add_channels(x, 3, 1);
  EXPECT_TRUE(last.channels().varied);
  EXPECT_TRUE(last.channels().absmax.empty());
}

// --- the divergence ---

// KL(P || Q) of the first i bins, straight from the definition.
double direct_divergence(const std::vector<int64_t>& h, size_t i) {
  std::vector<double> p(h.begin(), h.begin() + static_cast<int64_t>(i)), q(i, 0), sum(128), n(128);
  const auto group = [&](size_t j) { return 128 * j / i; };
  for (size_t j = 0; j < i; ++j) {
    sum[group(j)] += static_cast<double>(h[j]);
    n[group(j)] += h[j] > 0 ? 1 : 0;
  }
  for (size_t j = 0; j < i; ++j) q[j] = h[j] > 0 ? sum[group(j)] / n[group(j)] : 0;
  for (size_t j = i; j < h.size(); ++j) p[i - 1] += static_cast<double>(h[j]);
  const double all_p = std::accumulate(p.begin(), p.end(), 0.0);
  const double all_q = std::accumulate(q.begin(), q.end(), 0.0);
  double kl = 0;
  for (size_t j = 0; j < i; ++j) {
    if (p[j] > 0) kl += p[j] / all_p * std::log(p[j] / all_p / (q[j] / all_q));
  }
  return kl;
}

TEST(Entropy, ClosedFormIsTheDefinition) {
  Floats relu = normal(200000, 3);
  for (float& v : relu) v = std::max(v, 0.0F);
  for (const Floats& x : {normal(200000, 2), relu}) {
    const Magnitudes m = merged_once(magnitudes(collected(x).histogram()));
    for (const char* policy : {"skip", "keep"}) {
      const std::vector<int64_t> h = after_zero_policy(m.counts, policy);
      const std::vector<double> closed = divergences(h);
      std::vector<double> direct;
      for (size_t i = 128; i <= h.size(); ++i) direct.push_back(direct_divergence(h, i));
      ASSERT_EQ(closed.size(), direct.size());
      for (size_t i = 0; i < closed.size(); ++i) {
        if (std::isinf(direct[i]) || std::isinf(closed[i])) {
          EXPECT_EQ(closed[i], direct[i]) << i;
        } else {
          EXPECT_NEAR(closed[i], direct[i], 1e-9) << i;
        }
      }
      EXPECT_EQ(std::ranges::min_element(closed) - closed.begin(),
                std::ranges::min_element(direct) - direct.begin());
    }
  }
}

// --- solving ---

Calibration calibration_of(const std::vector<Floats>& tensors) {
  Calibration c;
  Team team(1);
  std::vector<Observation> batch;
  for (size_t i = 0; i < tensors.size(); ++i) {
    TensorStatistics& t = c.tensors.emplace_back();
    t.name = cat("t", i);
    const auto n = static_cast<int64_t>(tensors[i].size());
    batch.push_back({i, Tensor::of<float>(DType::f32, {n}, tensors[i])});
  }
  c.observe(batch, 64, 0, team);
  return c;
}

TensorReport solved(const Floats& x, const std::string& method,
                    const std::string& activation = "s8") {
  SolveOptions options;
  options.method = method;
  options.activation = activation;
  Team team(1);
  return calibration_of({x}).report(options, team)[0];
}

double actual_error(const Floats& x, const QParams& q) {
  const int low = q.dtype == DType::s8 ? -128 : 0, high = q.dtype == DType::s8 ? 127 : 255;
  double sum = 0;
  for (const float v : x) {
    const float step = std::nearbyint(v / q.scale[0]) + static_cast<float>(q.zero_point[0]);
    const float code = std::clamp(step, static_cast<float>(low), static_cast<float>(high));
    const double error = v - (code - static_cast<float>(q.zero_point[0])) * q.scale[0];
    sum += error * error;
  }
  return sum / static_cast<double>(x.size());
}

TEST(GridError, IsCloseToTheActualError) {
  Floats skewed = normal(300000, 4);
  for (float& v : skewed) v = v > 0 ? v * v : v / 8;
  for (const char* grid : {"s8", "u8"}) {
    for (const double part : {1.0, 0.5, 0.11}) {
      const Histogram h = collected(skewed).histogram();
      const Grid g = grid_of(*dtype_of_name(grid), part * h.absmax(), h);
      const double actual = actual_error(skewed, {g.dtype, {g.scale}, {g.zero_point}});
      EXPECT_NEAR(GridError(h)(g) / actual, 1, 0.02) << grid << part;
    }
  }
}

TEST(Solvers, ScalingByPowersOfTwoScalesThresholds) {
  const Floats x = normal(50000, 8);
  for (const Calibrator& row : calibrators()) {
    const double before = solved(x, std::string(row.name)).scale.threshold;
    for (const int k : {-40, -1, 7, 60}) {
      Floats y = x;
      for (float& v : y) v = std::ldexp(v, k);
      EXPECT_EQ(solved(y, std::string(row.name)).scale.threshold, std::ldexp(before, k))
          << row.name;
    }
  }
}

TEST(Solvers, MseIsNeverWorse) {
  Floats heavy = normal(50000, 9);
  for (float& v : heavy) v = v * v * v;
  Floats relu = normal(50000, 10);
  for (float& v : relu) v = std::max(v, 0.0F);
  for (const Floats& x : {normal(50000, 8), heavy, relu}) {
    const double best = actual_error(x, solved(x, "mse").scale.params);
    for (const Calibrator& row : calibrators()) {
      const double error = actual_error(x, solved(x, std::string(row.name)).scale.params);
      EXPECT_LT(best, error * 1.01) << row.name;
    }
  }
}

TEST(Solvers, ClippedMassFallsAsTheThresholdGrows) {
  const Magnitudes m = magnitudes(collected(normal(50000, 8)).histogram());
  double before = 1;
  for (double t = 0.1; t < m.absmax; t += 0.1) {
    const double share = share_above(m, t);
    EXPECT_LE(share, before);
    before = share;
  }
  EXPECT_EQ(share_above(m, m.absmax), 0);
}

TEST(Solvers, DegenerateTensors) {
  for (const Calibrator& row : calibrators()) {
    const std::string method(row.name);
    const TensorReport dead = solved(Floats(100, 0.0F), method);
    EXPECT_EQ(dead.scale.params.scale[0], 1) << method;
    EXPECT_EQ(dead.scale.note, "dead") << method;
    const TensorReport constant = solved(Floats(100, -2.5F), method);
    EXPECT_EQ(constant.scale.params.scale[0], static_cast<float>(2.5 / 127)) << method;
    EXPECT_EQ(constant.scale.note, "constant") << method;
    const TensorReport tiny = solved({1e-42F, 2e-42F, 0}, method);
    EXPECT_EQ(tiny.scale.params.scale[0], std::ldexp(1.0F, -126)) << method;
    const TensorReport huge = solved({3.4e38F, -3.4e38F, 0, 1}, method);
    EXPECT_TRUE(std::isfinite(huge.scale.params.scale[0])) << method;
    const TensorReport single = solved({3}, method, "u8");
    EXPECT_EQ(single.scale.params.scale[0], static_cast<float>(3.0 / 255)) << method;
  }
}

TEST(Solvers, OneSidedTensorsGetTheWholeGrid) {
  Floats relu = normal(50000, 10);
  for (float& v : relu) v = std::max(v, 0.0F);
  const TensorReport row = solved(relu, "minmax", "auto");
  EXPECT_EQ(row.scale.params.dtype, DType::u8);
  EXPECT_EQ(row.scale.params.zero_point[0], 0);
  EXPECT_EQ(row.scale.params.scale[0], static_cast<float>(row.max / 255));
  EXPECT_EQ(solved(normal(50000, 8), "minmax", "auto").scale.params.dtype, DType::s8);
  Floats gelu = normal(50000, 11);
  for (float& v : gelu) v *= 0.5F * std::erfc(-v * std::sqrt(0.5F));
  const TensorReport skewed = solved(gelu, "auto", "auto");
  EXPECT_EQ(skewed.scale.params.dtype, DType::u8);
  EXPECT_GT(skewed.scale.params.zero_point[0], 0);
  EXPECT_LT(actual_error(gelu, skewed.scale.params) * 2,
            actual_error(gelu, solved(gelu, "auto").scale.params));
}

// Caches of another tool hold T / 127 of T = 2048.5 / 2048 * absmax.
TEST(Solvers, EncodedScalesOfTheLastCandidate) {
  const auto bits = [](double threshold) {
    return std::bit_cast<uint32_t>(symmetric_scale(threshold));
  };
  EXPECT_EQ(bits(255.0 / 2048 * 2048.5), 0x4000890aU);
  EXPECT_EQ(bits(2.64 / 2048 * 2048.5), 0x3caa54fcU);
  EXPECT_EQ(bits(1.0), 0x3c010204U);
  Floats pixels;  // every value of [0, 255] in 2048ths, evenly: nothing may be clipped
  for (int i = 0; i < 2048 * 16; ++i)
    pixels.push_back(255.0F * static_cast<float>(i) / (2048 * 16 - 1));
  Calibration c = calibration_of({pixels});
  Team team(1);
  c.start_second_pass();
  const std::vector<Observation> batch = {
      {0, Tensor::of<float>(DType::f32, {static_cast<int64_t>(pixels.size())}, pixels)}};
  c.observe_again(batch, team);
  SolveOptions options;
  options.method = "entropy";
  options.activation = "s8";
  EXPECT_EQ(std::bit_cast<uint32_t>(c.report(options, team)[0].scale.params.scale[0]), 0x4000890aU);
}

TEST(Calibration, GroupsShareOneGrid) {
  const Floats a = normal(20000, 1), b = normal(20000, 2, 3.0F);
  Calibration c = calibration_of({a, b, a});
  c.tensors[0].group = c.tensors[1].group = 7;
  Floats both = a;
  both.insert(both.end(), b.begin(), b.end());
  Team team(2);
  SolveOptions options;
  for (const Calibrator& row : calibrators()) {
    options.method = row.name;
    const Scales scales = c.solve(options, team);
    EXPECT_EQ(scales.tensors[0].params, scales.tensors[1].params) << row.name;
    EXPECT_EQ(scales.tensors[0].params, solved(both, options.method, "auto").scale.params);
    EXPECT_EQ(scales.tensors[2].params, solved(a, options.method, "auto").scale.params);
  }
  options.shared_ranges = "off";
  options.method = "minmax";
  EXPECT_NE(c.solve(options, team).tensors[0].params, c.solve(options, team).tensors[1].params);
}

TEST(Calibration, BitsDoNotDependOnThreads) {
  const Floats x = awkward(3 << 20, 12);
  const Tensor data = Tensor::of<float>(DType::f32, {3 << 10, 1 << 10}, x);
  std::vector<std::byte> first;
  for (const int threads : {1, 2, 5, 8}) {
    Calibration c;
    c.tensors.resize(2);
    c.tensors[0].name = "a";
    c.tensors[1].name = "b";
    c.tensors[0].channels = true;
    Team team(threads);
    c.observe(std::vector<Observation>{{0, data}, {1, data}}, 1, 1, team);
    std::vector<std::byte> bytes;
    write_calibration(c, [&](std::span<const std::byte> piece) {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    });
    if (threads == 1) first = bytes;
    EXPECT_TRUE(bytes == first) << threads;
    EXPECT_EQ(c.tensor("a").collector.channels().absmax.size(), 1U << 10);
  }
}

template <class E>
void expect_error(const std::function<void()>& body, const std::string& says) {
  try {
    body();
    ADD_FAILURE() << "nothing was thrown; expected " << says;
  } catch (const E& e) {
    EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << e.what();
  }
}

TEST(Calibration, BadCallsNameWhatIsWrong) {
  Team team(1);
  Calibration c = calibration_of({normal(100, 1)});
  SolveOptions options;
  options.method = "kl";
  expect_error<UsageError>([&] { c.solve(options, team); }, "method is 'kl'; expected one of auto");
  options = {};
  options.percentile = 101;
  expect_error<UsageError>([&] { c.solve(options, team); }, "percentile is 101");
  Calibration other = c;
  other.facts.model_hash = "ab";
  expect_error<CalibrationError>([&] { c.merge(other); }, "the model's hash is  here, ab there");
  other = c;
  other.tensors[0].name = "u";
  expect_error<CalibrationError>([&] { c.merge(other); }, "a tensor is t0 here, u there");
  c.tensors.emplace_back().name = "unseen";
  expect_error<CalibrationError>([&] { c.solve({}, team); }, "no data reached tensor 'unseen'");
  expect_error<UsageError>([&] { (void)c.tensor("unsen"); }, "no tensor 'unsen'");
  const Observation nan{0, Tensor::of<float>(DType::f32, {2}, Floats{1, NAN})};
  expect_error<CalibrationError>(
      [&] {
        c.observe({&nan, 1}, 1, 1, team);
      },
      "'t0' holds 1 NaN or infinite elements in batch 1");
}

TEST(Calibration, MuchLostAgainstMseIsNoted) {
  Floats outliers = normal(100000, 3);
  for (size_t i = 0; i < outliers.size(); i += 10000) outliers[i] = 60;
  SolveOptions options;
  options.method = "entropy";
  Team team(1);
  const Scales scales = calibration_of({outliers}).solve(options, team);
  ASSERT_EQ(scales.notes.size(), 1U);
  EXPECT_NE(scales.notes[0].find("tensor 't0' loses"), std::string::npos) << scales.notes[0];
}

// --- the file ---

std::vector<std::byte> bytes_of(const Calibration& c) {
  std::vector<std::byte> bytes;
  write_calibration(c, [&](std::span<const std::byte> piece) {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  });
  return bytes;
}

TEST(CalibrationFile, IsReadAsItWasWritten) {
  Calibration c = calibration_of({awkward(5000, 1), normal(300, 2), Floats(8, 0.0F)});
  c.facts.model_hash = "0123";
  c.facts.skipped = {"ids"};
  c.tensors[1].collector.add_channels(normal(300, 2), 100, 1);
  const std::vector<std::byte> bytes = bytes_of(c);
  const Calibration again = read_calibration(bytes);
  EXPECT_EQ(bytes_of(again), bytes);
  EXPECT_TRUE(again.tensors == c.tensors);
}

TEST(CalibrationFile, DamageIsATypedError) {
  const std::vector<std::byte> bytes = bytes_of(calibration_of({normal(40, 2)}));
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::vector<std::byte> damaged = bytes;
    damaged[i] ^= std::byte{0x10};
    EXPECT_THROW(read_calibration(damaged), Error) << i;
    EXPECT_THROW(read_calibration(std::span(bytes).first(i)), CorruptError) << i;
  }
}

TEST(NearestNames, LikestFirst) {
  const std::vector<std::string> known = {"encoder.0.out", "decoder.0.out", "x", "encoder.0.out_1"};
  EXPECT_EQ(nearest_names("Encoder.0.ou", known),
            (std::vector<std::string>{"encoder.0.out", "encoder.0.out_1", "decoder.0.out"}));
  EXPECT_TRUE(nearest_names("zzz", known).empty());
}

}  // namespace
}  // namespace planck
