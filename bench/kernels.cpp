// Kernel benchmarks: products, depthwise convolutions and attention as a share of the peak of the
// same run.
// Every round first times a register-only loop of the unit's instructions (FMA, or products of
// bytes for integer rows) on the same team, so that a busy or throttled
// machine moves both. Weights are cold: each run takes the next of more than 256 MB of copies, as
// the layers of a model do. Counters: share = median over rounds, best = fastest round.
#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <xbyak/xbyak.h>
#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "base/checked.h"
#include "base/device.h"
#include "base/team.h"
#include "kernels/attention/rows.h"
#include "kernels/channelwise/rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/jit/code.h"
#include "kernels/matmul/rows.h"
#include "kernels/qmatmul/rows.h"
#include "kernels/reduce/rows.h"

namespace planck {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

struct Unmap {
  void operator()(float* p) const { std::free(p); }
};
using Floats = std::unique_ptr<float[], Unmap>;

Floats random_floats(int64_t count, float scale = 1) {
  // Huge pages, as the engine's weights and arenas have.
  constexpr int64_t kHugePage = 2 << 20;
  const int64_t bytes = round_up(count * 4, kHugePage);
  Floats out(static_cast<float*>(std::aligned_alloc(kHugePage, bytes)));
  madvise(out.get(), bytes, MADV_HUGEPAGE);
  std::minstd_rand random(17);
  for (int64_t i = 0; i < count; ++i) {
    out[i] = scale * (static_cast<float>(random() % 2001) / 1000.0F - 1);
  }
  return out;
}

// --- the peak --------------------------------------------------------------------------------

// rdi rounds of one FMA into each of as many registers as hide four cycles on two units.
class FmaLoop : public Xbyak::CodeGenerator {
 public:
  explicit FmaLoop(bool wide) : sums(wide ? 24 : 12) {
    Xbyak::Label loop;
    for (int i = 0; i < sums + 2; ++i) vxorps(Xbyak::Xmm(i % 16), Xbyak::Xmm(i % 16));
    L(loop);
    for (int i = 0; i < 2 * sums; ++i) {
      if (wide) {
        vfmadd231ps(Xbyak::Zmm(i % sums), Xbyak::Zmm(24), Xbyak::Zmm(25));
      } else {
        vfmadd231ps(Xbyak::Ymm(i % sums), Xbyak::Ymm(12), Xbyak::Ymm(13));
      }
    }
    dec(rdi);
    jnz(loop);
    vzeroupper();
    ret();
    flops = 2.0 * 2 * sums * (wide ? 16 : 8);
  }
  int sums;
  double flops;  // of a round
};

// rdi rounds of what adds a register's products of bytes, as often as hides its latency.
class ByteLoop : public Xbyak::CodeGenerator {
 public:
  explicit ByteLoop(QmatmulUnit unit) {
    unit == QmatmulUnit::amx_int8 ? matrices() : vectors(unit);
  }
  double flops = 0;  // of a round: a product and a sum are two

 private:
  void vectors(QmatmulUnit unit) {
    const bool wide = unit == QmatmulUnit::vnni512;
    const int sums = wide ? 24 : 12, lanes = wide ? 16 : 8;
    Xbyak::Label loop;
    for (int i = 0; i < 16; ++i) vxorps(Xbyak::Xmm(i), Xbyak::Xmm(i), Xbyak::Xmm(i));
    L(loop);
    for (int i = 0; i < 2 * sums; ++i) accumulate(unit, i % sums);
    dec(rdi);
    jnz(loop);
    vzeroupper();
    ret();
    const bool words = unit == QmatmulUnit::widen || is_winograd(unit);
    flops = 2.0 * 2 * sums * lanes * (words ? 2 : 4);
  }

  // Four tiles of sums of 16 rows x 16 columns, 64 deep.
  void matrices() {
    constexpr int kTiles = 8, kSums = 4, kRows = 16, kRowBytes = 64;
    Xbyak::Label loop, shapes;
    ldtilecfg(ptr[rip + shapes]);
    for (int i = 0; i < kTiles; ++i) tilezero(Xbyak::Tmm(i));
    L(loop);
    for (int i = 0; i < 2 * kSums; ++i) {
      tdpbusd(Xbyak::Tmm(i % kSums), Xbyak::Tmm(4 + i / 2 % 2), Xbyak::Tmm(6 + i % 2));
    }
    dec(rdi);
    jnz(loop);
    tilerelease();
    ret();
    align(64);
    L(shapes);
    db(1);  // the palette, then 15 bytes that are 0, 16 widths and 16 heights
    for (int i = 1; i < 16; ++i) db(0);
    for (int i = 0; i < 16; ++i) dw(i < kTiles ? kRowBytes : 0);
    for (int i = 0; i < 16; ++i) db(i < kTiles ? kRows : 0);
    flops = 2.0 * 2 * kSums * kRows * 16 * kRowBytes;
  }

  void accumulate(QmatmulUnit unit, int at) {
    const Xbyak::Ymm sum(at), product(12), a(13), b(14);
    if (unit == QmatmulUnit::vnni512) {
      vpdpbusd(Xbyak::Zmm(at), Xbyak::Zmm(24), Xbyak::Zmm(25));
    } else if (unit == QmatmulUnit::avx_vnni) {
      const bool vex = this_device().avx_vnni;
      vpdpbusd(sum, a, b, vex ? Xbyak::VexEncoding : Xbyak::EvexEncoding);
    } else {
      if (unit == QmatmulUnit::pairs) vpmaddubsw(product, a, b);
      vpmaddwd(product, unit == QmatmulUnit::pairs ? product : a, b);
      vpaddd(sum, sum, product);
    }
  }
};

class Peak {
 public:
  explicit Peak(const auto& loop) : flops_(loop.flops), code_{{loop.getCode(), loop.getSize()}} {}

  // Floating-point operations per second of the whole team, now.
  double operator()(Team& team) const {
    const Job job{[](const void* raw, int64_t, const Worker&) {
                    static_cast<const Peak*>(raw)->run(kRounds);
                  },
                  this, kTiles * team.size()};
    const Clock::time_point from = Clock::now();
    team.run({&job, 1});
    return static_cast<double>(job.tiles) * kRounds * flops_ / seconds(from);
  }

 private:
  static constexpr int64_t kRounds = 4000, kTiles = 32;  // 16 us a tile, 0.5 ms in all

  void run(int64_t rounds) const { code_.entry<void (*)(int64_t)>()(rounds); }

  double flops_;
  jit::ExecutableCode code_;
};

Team& team_of(int threads) {
  static std::map<int, std::unique_ptr<Team>> teams;
  auto& team = teams[threads];
  if (team == nullptr) team = std::make_unique<Team>(threads);
  team->reserve_scratch(64 << 20);
  return *team;
}

const Peak& peak() {
  static const Peak instance{FmaLoop(this_device().has(Isa::avx512))};
  return instance;
}

const Peak& byte_peak(QmatmulUnit unit) {
  static std::map<QmatmulUnit, std::unique_ptr<const Peak>> peaks;
  auto& peak = peaks[unit];
  if (peak == nullptr) peak = std::make_unique<const Peak>(ByteLoop(unit));
  return *peak;
}

// Rounds of (peak, `runs` runs): shares, from which the counters come.
class Shares {
 public:
  explicit Shares(const Peak& of = peak()) : peak_(of) {}

  void round(benchmark::State& state, Team& team, double flops, int runs,
             const std::function<void()>& run) {
    const double before = peak_(team);
    const Clock::time_point from = Clock::now();
    for (int i = 0; i < runs; ++i) run();
    const double time = seconds(from) / runs;
    const double after = peak_(team);
    state.SetIterationTime(time);
    top_ = std::max({top_, before, after});
    fastest_ = std::min(fastest_, time);
    shares_.push_back(flops / time / std::max(before, after));
    flops_ = flops;
  }
  double share() const { return median(shares_); }
  double best() const { return flops_ / fastest_ / top_; }
  void report(benchmark::State& state) const {
    state.counters["share"] = share();
    state.counters["best"] = best();
    state.counters["GFLOPs"] = flops_ / fastest_ * 1e-9;
    state.counters["peak"] = top_ * 1e-9;
  }

 private:
  const Peak& peak_;
  double top_ = 0, fastest_ = 1e9, flops_ = 0;
  std::vector<double> shares_;
};

void peak_benchmark(benchmark::State& state, int threads) {
  double top = 0;
  for ([[maybe_unused]] auto _ : state) {
    const double now = peak()(team_of(threads));
    state.SetIterationTime(1 / now);
    top = std::max(top, now);
  }
  state.counters["GFLOPs"] = top * 1e-9;
}

// What the team reads from memory together, in order, as weights are read.
void read_benchmark(benchmark::State& state, int threads) {
  constexpr int64_t kAll = int64_t{512} << 20, kTile = 1 << 20, kLine = 64;
  static const Floats data = random_floats(kAll / 4);
  static std::atomic<int64_t> sum;  // so that no read is left out
  const Job job{[](const void* raw, int64_t tile, const Worker&) {
                  const auto* from = static_cast<const char*>(raw) + tile * kTile;
                  int64_t total = 0;
                  for (int64_t at = 0; at < kTile; at += kLine) {
                    _mm_prefetch(from + at + 4 * 1024, _MM_HINT_T0);
                    total += from[at];
                  }
                  sum += total;
                },
                data.get(), kAll / kTile};
  double top = 0;
  for ([[maybe_unused]] auto _ : state) {
    const Clock::time_point start = Clock::now();
    team_of(threads).run({&job, 1});
    const double took = seconds(start);
    state.SetIterationTime(took);
    top = std::max(top, static_cast<double>(kAll) / took);
  }
  state.counters["GBps"] = top * 1e-9;
}

// --- products --------------------------------------------------------------------------------

enum class Tail { none, bias, residual, gelu };

struct Shape {
  int64_t m, n, k;
  Tail tail;
};

TileProgram gelu() {
  TileProgram program;
  program.operands = {Broadcast::none};
  program.apply(TileOp::gelu_erf, program.operand(0));
  return program;
}

// A pitch of a multiple of 4096 bytes would put all rows of a tile into the same sets of L1.
int64_t pitch_of(int64_t columns) { return columns % 256 == 0 ? columns + 16 : columns; }

class Product {
 public:
  Product(const MatmulRow& row, const Shape& s) : row_(row), s_(s) {
    const int64_t floats = packed_floats(row, s.n, s.k);
    copies_ = std::max<int64_t>(2, (int64_t{256} << 20) / (floats * 4));
    weights_ = random_floats(floats * copies_, 0.05F);
    a_ = random_floats(s.m * pitch_of(s.k));
    c_ = random_floats(s.m * pitch_of(s.n));
    residual_ = random_floats(s.m * pitch_of(s.n));
    bias_ = random_floats(s.n);
    args_.m = s.m, args_.n = s.n, args_.k = s.k;
    args_.a = a_.get(), args_.a_stride = pitch_of(s.k);
    args_.c = c_.get(), args_.c_stride = pitch_of(s.n);
    if (s.tail != Tail::none) args_.epilogue.bias = bias_.get();
    if (s.tail == Tail::residual) {
      args_.epilogue.residual = residual_.get();
      args_.epilogue.residual_stride = pitch_of(s.n);
    }
    if (s.tail == Tail::gelu) {
      program_ = compile(gelu());
      args_.epilogue.program = &program_;
    }
    job_ = plan_matmul(row, args_);
  }

  double flops() const { return 2.0 * static_cast<double>(s_.m * s_.n * s_.k); }
  // Enough runs for about four milliseconds at 200 GFLOP/s.
  int runs() const { return static_cast<int>(std::clamp(4e-3 * 200e9 / flops(), 1.0, 64.0)); }

  void operator()(Team& team) {
    const int64_t floats = packed_floats(row_, s_.n, s_.k);
    args_.b = weights_.get() + floats * next_;
    next_ = (next_ + 1) % copies_;
    args_.next = {weights_.get() + floats * next_, floats};  // as a plan's next product
    team.run({&job_, 1});
  }

 private:
  const MatmulRow& row_;
  Shape s_;
  Floats weights_, a_, c_, residual_, bias_;
  int64_t copies_ = 0, next_ = 0;
  EltProgram program_;
  MatmulArgs args_;
  Job job_;
};

// A convolution of 3 x 3 with a border of zeros, from `side` x `side` places of `channels` to n.
// Rows of pairs take colours from planes, as plans have them do.
struct Layer {
  int64_t side, channels, n, stride;
};

class Convolution {
 public:
  Convolution(const MatmulRow& row, const Layer& l)
      : flops_(static_cast<double>(18 * l.channels * l.n)) {
    const int64_t out = ceil_div(l.side, l.stride), k = 9 * l.channels;
    x_ = random_floats(l.side * l.side * l.channels), c_ = random_floats(out * out * l.n);
    const Floats w = random_floats(k * l.n, 0.05F);
    b_ = random_floats(packed_floats(row, l.n, k)), bias_ = random_floats(l.n);
    pack_b(row, l.n, k, w.get(), l.n, 1, b_.get());
    windows_ = {{l.side, out, 3, l.stride, 1, 1, l.side * l.channels},
                {l.side, out, 3, l.stride, 1, 1, l.channels},
                l.channels,
                l.side * l.side * l.channels};
    if (row.pairs() && l.channels == 3) {
      windows_.y.step = l.side, windows_.x.step = 1, windows_.channel_step = l.side * l.side;
    }
    args_.m = out * out, args_.n = l.n, args_.k = k;
    args_.a = x_.get(), args_.b = b_.get(), args_.windows = &windows_;
    args_.c = c_.get(), args_.c_stride = l.n;
    args_.epilogue.bias = bias_.get();
    flops_ *= static_cast<double>(args_.m);
    job_ = plan_matmul(row, args_);
  }

  double flops() const { return flops_; }
  int runs() const { return static_cast<int>(std::clamp(4e-3 * 200e9 / flops_, 1.0, 64.0)); }
  void operator()(Team& team) { team.run({&job_, 1}); }

 private:
  double flops_;
  Floats x_, c_, b_, bias_;
  MatmulWindows windows_;
  MatmulArgs args_;
  Job job_;
};

// The tails of a quantised model: bytes that the next product reads, or floats with a residual.
class IntegerProduct {
 public:
  // `side`: a convolution of 3 x 3 over a square picture of so many places a side, which m and k
  // follow from.
  IntegerProduct(const QmatmulRow& row, const Shape& s, int64_t side = 0) : s_(s) {
    bytes_ = round_up(packed_bytes(row, s.n, s.k), 64);
    copies_ = std::max<int64_t>(2, (int64_t{256} << 20) / bytes_);
    weights_ = random_floats(ceil_div(bytes_ * copies_, 4));
    a_ = random_floats(ceil_div(s.m * pitch_of(s.k), 4));
    c_ = random_floats(s.m * pitch_of(s.n)), residual_ = random_floats(s.m * pitch_of(s.n));
    bias_ = random_floats(s.n), multiplier_ = random_floats(s.n, 1e-4F);
    offset_.resize(static_cast<size_t>(s.n));
    args_.m = s.m, args_.n = s.n, args_.k = s.k;
    args_.a = reinterpret_cast<const uint8_t*>(a_.get()), args_.a_stride = pitch_of(s.k);
    if (side > 0) {
      windows_.channels = s.k / 9;
      windows_.y = {side, side, 3, 1, 1, 1, side * windows_.channels};
      windows_.x = {side, side, 3, 1, 1, 1, windows_.channels};
      windows_.image_step = side * side * windows_.channels;
      args_.windows = &windows_;
    }
    args_.c_stride = pitch_of(s.n);
    args_.offset = offset_.data(), args_.multiplier = multiplier_.get(), args_.bias = bias_.get();
    if (s.tail == Tail::residual) {
      args_.c = c_.get();
      args_.residual = residual_.get(), args_.residual_stride = pitch_of(s.n);
    } else {
      args_.c_bytes = reinterpret_cast<uint8_t*>(c_.get());
      args_.requantize = true, args_.out_zero = 128;
    }
    pack(row);
    job_ = plan_qmatmul(row, args_);
  }

  double flops() const { return 2.0 * static_cast<double>(s_.m * s_.n * s_.k); }
  int runs() const { return static_cast<int>(std::clamp(4e-3 * 800e9 / flops(), 1.0, 64.0)); }

  void operator()(Team& team) {
    args_.b = weights(next_);
    next_ = (next_ + 1) % copies_;
    args_.next = {weights(next_), bytes_};  // as a plan's next product
    team.run({&job_, 1});
  }

 private:
  int8_t* weights(int64_t copy) const {
    return reinterpret_cast<int8_t*>(weights_.get()) + copy * bytes_;
  }
  // Weights as trained ones are spread, about normal: some rows pack them by their values.
  void pack(const QmatmulRow& row) {
    std::vector<int8_t> b(static_cast<size_t>(s_.n * s_.k));
    std::mt19937 random(17);
    std::normal_distribution<float> normal(0, 30);
    for (int8_t& x : b) {
      x = static_cast<int8_t>(std::clamp(std::nearbyint(normal(random)), -127.0F, 127.0F));
    }
    pack_b(row, s_.n, s_.k, b.data(), s_.n, 1, weights(0));
    for (int64_t i = 1; i < copies_; ++i) std::copy_n(weights(0), bytes_, weights(i));
  }

  Shape s_;
  Floats weights_, a_, c_, residual_, bias_, multiplier_;
  std::vector<int32_t> offset_;
  int64_t bytes_ = 0, copies_ = 0, next_ = 0;
  MatmulWindows windows_;
  QmatmulArgs args_;
  Job job_;
};

struct Mean {
  double log_share = 0, log_best = 0;
  int count = 0;
};
std::map<std::string, Mean>& means() {
  static std::map<std::string, Mean> all;
  return all;
}

void product_benchmark(benchmark::State& state, auto& product, Shares shares, int threads,
                       const std::string& group) {
  Team& team = team_of(threads);
  product(team);
  for ([[maybe_unused]] auto _ : state) {
    shares.round(state, team, product.flops(), product.runs(), [&] { product(team); });
  }
  shares.report(state);
  Mean& mean = means()[group];
  mean.log_share += std::log(shares.share());
  mean.log_best += std::log(shares.best());
  ++mean.count;
}

void mean_benchmark(benchmark::State& state, const std::string& group) {
  for ([[maybe_unused]] auto _ : state) state.SetIterationTime(1e-9);
  const Mean& mean = means()[group];
  if (mean.count == 0) return state.SkipWithError("not measured");
  state.counters["share"] = std::exp(mean.log_share / mean.count);
  state.counters["best"] = std::exp(mean.log_best / mean.count);
}

// --- reductions -------------------------------------------------------------------------------

struct Reduction {
  int64_t outer, count, inner;
};

void reduce_benchmark(benchmark::State& state, const ReduceRow& row, const Reduction& r,
                      int threads) {
  const Floats x = random_floats(r.outer * r.count * r.inner);
  const Floats out = random_floats(r.outer * r.inner);
  const ReduceArgs args{ReduceOp::mean, ReduceType::f32, x.get(), out.get(),
                        r.outer,        r.count,         r.inner};
  const Job job = row.job(args);
  Team& team = team_of(threads);
  team.run({&job, 1});
  double best = std::numeric_limits<double>::infinity();
  for ([[maybe_unused]] auto _ : state) {
    const Clock::time_point start = Clock::now();
    team.run({&job, 1});
    const double took = seconds(start);
    state.SetIterationTime(took);
    best = std::min(best, took);
  }
  state.counters["GBps"] = 4e-9 * static_cast<double>(r.outer * r.count * r.inner) / best;
}

// --- attention -------------------------------------------------------------------------------

struct AttentionShape {
  int64_t length, size;
};

void attention_benchmark(benchmark::State& state, const AttentionRow& row,
                         const AttentionShape& shape, int threads) {
  constexpr int64_t kHeads = 12;
  const auto [length, size] = shape;
  const int64_t width = 3 * kHeads * size, pitch = pitch_of(width);
  const Floats qkv = random_floats(length * pitch), mask = random_floats(length);
  const Floats out = random_floats(length * kHeads * size);
  AttentionArgs args;
  args.heads = kHeads, args.lq = args.lk = length, args.d = args.dv = size;
  args.q = qkv.get(), args.k = args.q + kHeads * size, args.v = args.k + kHeads * size;
  args.q_strides = args.k_strides = args.v_strides = {length * pitch, size, pitch};
  args.out = out.get();
  args.out_strides = {length * kHeads * size, size, kHeads * size};
  args.scale = 1 / std::sqrt(static_cast<float>(size));
  args.mask = mask.get();
  args.mask_key = 1;
  const Job job = plan_attention(row, args);
  Team& team = team_of(threads);
  const double flops = 4.0 * static_cast<double>(kHeads * size * length * length);
  Shares shares;
  for ([[maybe_unused]] auto _ : state)
    shares.round(state, team, flops, 8, [&] { team.run({&job, 1}); });
  shares.report(state);
}

// --- depthwise convolutions ------------------------------------------------------------------

// Of pictures of so many places with as many places of padding on either side as keep their size
// where the stride is 1; all ends in bias and HardSwish.
struct Depthwise {
  int64_t images, height, width, channels;
  int64_t kernel_y, kernel_x, stride_y = 1, stride_x = 1;
};

WindowSteps same_steps(int64_t in, int64_t kernel, int64_t stride, int64_t step) {
  return {in, ceil_div(in, stride), kernel, stride, 1, kernel / 2, step};
}

void depthwise_benchmark(benchmark::State& state, const ChannelwiseRow& row, const Depthwise& d,
                         int threads) {
  ChannelwiseArgs args{};
  args.op = ChannelwiseOp::depthwise;
  args.columns = same_steps(d.width, d.kernel_x, d.stride_x, d.channels);
  args.rows = same_steps(d.height, d.kernel_y, d.stride_y, d.width * d.channels);
  args.images = d.images, args.channels = d.channels;
  args.image_step = d.height * d.width * d.channels;
  args.out_stride = d.channels;
  const int64_t outputs = d.images * args.rows.out * args.columns.out * d.channels;
  const int64_t taps = d.kernel_y * d.kernel_x;
  const Floats x = random_floats(d.images * args.image_step), out = random_floats(outputs);
  const Floats w = random_floats(taps * d.channels), bias = random_floats(d.channels);
  args.x = x.get(), args.w = w.get(), args.bias = bias.get(), args.out = out.get();
  TileProgram program;
  program.operands = {Broadcast::none};
  program.apply(TileOp::hard_swish, program.operand(0));
  finish_with(args, compile(program));
  plan_channelwise(row, args);
  const Job job = row.job(args);
  Team& team = team_of(threads);
  const double flops = 2.0 * static_cast<double>(outputs * taps);
  const int runs = static_cast<int>(std::clamp(4e-3 * 100e9 / flops, 1.0, 256.0));
  team.run({&job, 1});
  Shares shares;
  for ([[maybe_unused]] auto _ : state) {
    shares.round(state, team, flops, runs, [&] { team.run({&job, 1}); });
  }
  shares.report(state);
}

// --- registration ----------------------------------------------------------------------------

constexpr int kRounds = 40;

template <class Body>
void add(const std::string& name, int rounds, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Iterations(rounds)
      ->Unit(benchmark::kMicrosecond);
}

const char* tail_name(Tail tail) {
  constexpr const char* kNames[] = {"", "_bias", "_residual", "_gelu"};
  return kNames[static_cast<int>(tail)];
}

void run_shape(benchmark::State& state, const MatmulRow& row, const Shape& s, int threads,
               const std::string& group) {
  Product product(row, s);
  product_benchmark(state, product, Shares(), threads, group);
}
void run_shape(benchmark::State& state, const QmatmulRow& row, const Shape& s, int threads,
               const std::string& group) {
  IntegerProduct product(row, s);
  product_benchmark(state, product, Shares(byte_peak(row.unit)), threads, group);
}

// The convolutions of 3 x 3 of ResNet-50: rows by Winograd do fewer products than counted.
void add_convolutions(const QmatmulRow& row, int threads) {
  struct Layer {
    int64_t side, channels;
  };
  const std::string group = cat(row.name, "/3x3/threads", threads);
  for (const Layer& l : {Layer{56, 64}, {28, 128}, {14, 256}, {7, 512}}) {
    const Shape s{l.side * l.side, l.channels, 9 * l.channels, Tail::bias};
    add(cat(group, "/", l.side, "x", l.side, "x", l.channels), kRounds, [=, &row](auto& state) {
      IntegerProduct product(row, s, l.side);
      product_benchmark(state, product, Shares(byte_peak(row.unit)), threads, group);
    });
  }
  add(cat(group, "/mean"), 1, [=](auto& state) { mean_benchmark(state, group); });
}

// Few output channels, as in the detection of text.
void add_narrow_convolutions(const MatmulRow& row, int threads) {
  const std::string group = cat(row.name, "/3x3/threads", threads);
  for (const Layer& l : {Layer{160, 96, 24, 1}, {80, 96, 24, 1}, {640, 3, 16, 2}}) {
    add(cat(group, "/", l.side, "x", l.side, "x", l.channels, "to", l.n, "by", l.stride), kRounds,
        [=, &row](auto& state) {
          Convolution convolution(row, l);
          product_benchmark(state, convolution, Shares(), threads, group);
        });
  }
}

template <class Row>
void add_products(const Row& row, int64_t m, int threads) {
  const Shape shapes[] = {{m, 768, 768, Tail::residual},
                          {m, 2304, 768, Tail::bias},
                          {m, 3072, 768, std::is_same_v<Row, MatmulRow> ? Tail::gelu : Tail::bias},
                          {m, 768, 3072, Tail::residual}};
  const std::string group = cat(row.name, "/m", m, "/threads", threads);
  for (const Shape& s : shapes) {
    add(cat(group, "/", s.n, "x", s.k, tail_name(s.tail)), kRounds,
        [=, &row](auto& state) { run_shape(state, row, s, threads, group); });
  }
  add(cat(group, "/mean"), 1, [=](auto& state) { mean_benchmark(state, group); });
}

// What mobile networks and those that read text are made of, convolutions of sequences, and a
// picture whose every row lies in L1.
void add_depthwise(const ChannelwiseRow& row, int threads) {
  const Depthwise all[] = {
      {1, 12, 80, 240, 5, 5},        {6, 12, 80, 240, 5, 5},       {6, 12, 80, 240, 5, 5, 2, 1},
      {6, 6, 80, 480, 5, 5},         {6, 3, 80, 480, 5, 5},        {1, 20, 20, 192, 5, 5},
      {1, 24, 160, 64, 3, 3},        {1, 12, 160, 128, 3, 3},      {6, 24, 160, 64, 3, 3},
      {6, 12, 160, 128, 3, 3},       {6, 24, 160, 64, 3, 3, 2, 1}, {6, 12, 160, 128, 3, 3, 1, 2},
      {1, 112, 112, 96, 3, 3, 2, 2}, {1, 56, 56, 144, 3, 3},       {1, 56, 56, 96, 7, 7},
      {4, 1, 64, 272, 1, 15},        {1, 8, 40, 16, 5, 5},         {1, 8, 40, 16, 3, 3}};
  for (const Depthwise& d : all) {
    const std::string stride =
        d.stride_y * d.stride_x == 1 ? "" : cat("s", d.stride_y, "x", d.stride_x);
    const std::string window = cat(d.kernel_y, "x", d.kernel_x, stride);
    const std::string picture = cat(d.images, "x", d.height, "x", d.width, "x", d.channels);
    add(cat(row.name, "/", window, "/", picture, "/threads", threads), kRounds,
        [=, &row](auto& state) { depthwise_benchmark(state, row, d, threads); });
  }
}

void add_all() {
  const int threads = this_device().cores;
  for (const int t : {1, threads}) {
    add(cat("peak/threads", t), kRounds, [=](auto& state) { peak_benchmark(state, t); });
    add(cat("read/threads", t), kRounds, [=](auto& state) { read_benchmark(state, t); });
  }
  for (const MatmulRow& row : matmul_rows()) {
    if (!this_device().has(row.isa) || row.isa == Isa::portable) continue;
    for (const int64_t m : {128, 32, 1024, 1}) add_products(row, m, threads);
    add_products(row, 128, 1);
  }
  for (const MatmulRow& row : convolution_rows()) {
    if (!this_device().has(row.isa) || row.isa == Isa::portable) continue;
    for (const int t : {1, threads}) add_narrow_convolutions(row, t);
  }
  for (const QmatmulRow& row : qmatmul_rows()) {
    if (!why_not(row, {.winograd = {.on = true, .rows = 1, .columns = 1}}, this_device()).empty() ||
        row.isa == Isa::portable) {
      continue;
    }
    for (const int t : {1, threads}) add_convolutions(row, t);
    if (is_winograd(row.unit)) continue;
    for (const int64_t m : {128, 32, 1024, 1}) add_products(row, m, threads);
    add_products(row, 128, 1);
  }
  for (const ChannelwiseRow& row : channelwise_rows()) {
    if (!this_device().has(row.isa) || row.isa == Isa::portable) continue;
    for (const int t : {1, threads}) add_depthwise(row, t);
  }
  // The last axis, a middle one, and rows of a softmax over another axis; all fit into L2 and L3.
  for (const ReduceRow& row : reduce_rows()) {
    if (!this_device().has(row.isa)) continue;
    for (const Reduction& r : {Reduction{4096, 256, 1}, {16, 512, 256}, {64, 1024, 7}}) {
      add(cat(row.name, '/', r.outer, 'x', r.count, 'x', r.inner), kRounds,
          [=, &row](auto& state) { reduce_benchmark(state, row, r, threads); });
    }
  }
  for (const AttentionRow& row : attention_rows()) {
    if (!this_device().has(row.isa) || row.isa == Isa::portable) continue;
    for (const AttentionShape shape : {AttentionShape{128, 64}, {384, 64}, {128, 32}}) {
      const std::string size = shape.size == 64 ? "" : cat("/size", shape.size);
      add(cat(row.name, "/length", shape.length, size), kRounds,
          [=, &row](auto& state) { attention_benchmark(state, row, shape, threads); });
    }
  }
}

}  // namespace
}  // namespace planck

int main(int count, char** values) {
  planck::add_all();
  benchmark::Initialize(&count, values);
  benchmark::RunSpecifiedBenchmarks();
}
