// Convolutions, depthwise convolutions and pools of every row against loops in double, between
// guard pages; bits equal between rows, cuts and threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "base/checked.h"
#include "base/team.h"
#include "guarded.h"
#include "kernel_rows.h"
#include "kernels/channelwise/rows.h"
#include "kernels/eltwise/rows.h"
#include "kernels/matmul/rows.h"
#include "kernels/winograd/rows.h"
#include "pictures.h"

namespace planck {
namespace {

WindowSteps axis_of(std::mt19937& random, int64_t most) {
  const auto up_to = [&](int64_t n) { return static_cast<int64_t>(random() % n) + 1; };
  WindowSteps a;
  a.in = up_to(most), a.kernel = up_to(4), a.stride = up_to(3), a.dilation = up_to(2);
  a.begin = up_to(a.kernel) - 1;
  a.out = up_to(most);  // any extent: windows may lie wholly in the padding
  return a;
}

Picture picture_of(std::mt19937& random, int64_t channels) {
  Picture p;
  p.images = static_cast<int64_t>(random() % 2) + 1;
  p.channels = channels;
  p.gap = random() % 3 == 0 ? 3 : 0;
  p.y = random() % 3 == 0 ? WindowSteps{} : axis_of(random, 7);
  p.x = axis_of(random, 12);
  p.x.step = p.place();
  p.y.step = p.x.in * p.place();
  return p;
}

TileProgram to_bytes() {
  TileProgram p;
  p.operands = {Broadcast::none};
  const int16_t x = p.apply(TileOp::relu, p.operand(0));
  const int16_t scale = p.constant(0.02F);
  p.apply(TileOp::quantize_u8, x, scale, p.constant(3));
  return p;
}

// What the program gives for floats that are known.
void expect_bytes(const GuardedBytes& bytes, const std::vector<float>& floats) {
  const auto count = static_cast<int64_t>(floats.size());
  GuardedBytes want(count);
  const EltOperand operand{floats.data(), count, 1};
  best_row(eltwise_rows())
      .strip(compile(to_bytes()), {&operand, want.data(), count, 1, count, EltType::u8});
  for (int64_t i = 0; i < count; ++i) ASSERT_EQ(bytes[i], want[i]) << i;
}

struct Convolution {
  using Draw = std::function<void(float*)>;
  static void as_is(float*) {}
  Convolution(const Picture& picture, int64_t columns, const Draw& draw = as_is,
              const Draw& draw_weights = as_is)
      : p(picture),
        n(columns),
        x(p.size()),
        planes(p.images * p.channels * p.y.in * p.x.in),
        w(p.taps() * p.channels * n),
        bias(n),
        residual(p.outputs() * n),
        out(p.outputs() * n) {
    x.randomize(1), w.randomize(2), bias.randomize(3), residual.randomize(4);
    draw(x.data()), draw_weights(w.data());
    for (int64_t at = 0; at < planes.size(); ++at) {
      const int64_t place = at % (p.y.in * p.x.in), plane = at / (p.y.in * p.x.in);
      const int64_t image = plane / p.channels, channel = plane % p.channels;
      planes[at] = x[image * p.image_step() + place * p.place() + channel];
    }
    planes.read_only();
    x.read_only(), w.read_only(), bias.read_only(), residual.read_only();
  }

  // The picture as planes, one for each channel.
  MatmulWindows windows_over_planes() const {
    MatmulWindows windows{p.y, p.x, p.channels, p.channels * p.y.in * p.x.in};
    windows.x.step = 1, windows.y.step = p.x.in;
    windows.channel_step = p.channels == 1 ? 1 : p.y.in * p.x.in;
    return windows;
  }

  // The program reads the residual as operand 1 and the bias as operand 2, or the bias as its only
  // one; it may end in bytes.
  std::vector<float> run(const MatmulRow& row, int threads, MatmulCut cut = {},
                         const EltProgram* program = nullptr, GuardedBytes* bytes = nullptr,
                         bool from_planes = false) {
    const int64_t k = p.taps() * p.channels;
    GuardedFloats packed(packed_floats(row, n, k));
    pack_b(row, n, k, w.data(), n, 1, packed.data());
    MatmulWindows windows{p.y, p.x, p.channels, p.image_step()};
    windows.parts = parts;
    if (from_planes) windows = windows_over_planes();
    MatmulArgs args;
    args.m = p.outputs(), args.n = n, args.k = k;
    args.a = from_planes ? planes.data() : x.data(), args.windows = &windows;
    args.b = packed.data();
    args.c = out.data(), args.c_stride = n;
    args.epilogue.bias = bias.data();
    args.epilogue.residual = residual.data(), args.epilogue.residual_stride = n;
    args.epilogue.relu = true;
    args.epilogue.program = program;
    std::ranges::copy(operands_of(program, nullptr), args.epilogue.operands);
    args.cut = cut;
    if (bytes != nullptr) {
      args.c = nullptr;
      args.epilogue.bytes = bytes->data(), args.epilogue.bytes_stride = n;
      args.epilogue.bytes_type = EltType::u8;
    }
    out.fill(12345);
    const Job job = plan_matmul(row, args);
    Team(threads, scratch_bytes(args)).run({&job, 1});
    return {out.data(), out.data() + out.size()};
  }

  std::array<EltOperand, 3> operands_of(const EltProgram* program, const float* c) const {
    const EltOperand columns{bias.data(), 0, 1}, rows{residual.data(), n, 1};
    const bool only_columns = program != nullptr && program->operands == 2;
    return {EltOperand{c, n, 1}, only_columns ? columns : rows, columns};
  }

  void expect_right() const {
    for (int64_t o = 0; o < p.outputs(); ++o) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = static_cast<double>(bias[j]) + residual[o * n + j], size = 3;
        for (int64_t t = 0; t < p.taps(); ++t) {
          const int64_t at = p.at(o, t);
          for (int64_t c = 0; at >= 0 && c < p.channels; ++c) {
            const double term = static_cast<double>(x[at + c]) * w[(t * p.channels + c) * n + j];
            sum += term, size += std::abs(term);
          }
        }
        ASSERT_NEAR(out[o * n + j], std::max(sum, 0.0), size * 1e-5) << "output " << o << ", " << j;
      }
    }
  }

  Picture p;
  int64_t n;
  GuardedFloats x, planes, w, bias, residual, out;
  std::vector<WindowPart> parts;  // that are read instead of x
};

std::vector<MatmulRow> rows_for(const Picture& p) {
  const MatmulProblem problem{.windows = MatmulWindows{p.y, p.x, p.channels, p.image_step()}};
  std::vector<MatmulRow> all;
  for (const MatmulRow& row : convolution_rows()) {
    if (why_not(row, problem, this_device()).empty()) all.push_back(row);
  }
  return all;
}

// The first row that runs says which bits the others have to give.
void expect_same(Convolution& c, const MatmulRow& row, int threads, std::vector<float>& expected) {
  const std::vector<float> got = c.run(row, threads);
  c.expect_right();
  if (expected.empty()) expected = got;
  EXPECT_EQ(got, expected) << row.name;
}

TEST(Convolutions, EveryRowIsRightAndHasTheSameBits) {
  std::mt19937 random(7);
  const EltProgram quantized = compile(to_bytes());
  for (int i = 0; i < 120; ++i) {
    Convolution c(picture_of(random, static_cast<int64_t>(random() % 20) + 1),
                  static_cast<int64_t>(random() % 40) + 1);
    SCOPED_TRACE(testing::PrintToString(c.p));
    std::vector<float> expected;
    for (const MatmulRow& row : rows_for(c.p)) {
      expect_same(c, row, 1 + i % 3, expected);
      if (testing::Test::HasFatalFailure()) return;
      EXPECT_EQ(c.run(row, 2, {3, 8, 1}), expected) << row.name << ", another cut";
      EXPECT_EQ(c.run(row, 2, {}, nullptr, nullptr, true), expected) << row.name << ", of planes";
      GuardedBytes bytes(c.out.size());
      c.run(row, 2, {}, &quantized, &bytes);
      expect_bytes(bytes, expected);
    }
  }
}

// Lines of outputs of every length, which fill register tiles or do not, with padding and without:
// then the picture is read where it lies.
TEST(Convolutions, BandsOfEveryWidthHaveTheSameBits) {
  for (int i = 0; i < 48; ++i) {
    Picture p;
    p.images = 1 + i % 2;
    p.channels = 9;
    p.gap = i % 3 == 0 ? 3 : 0;
    const int64_t kernel = i % 4 == 0 ? 1 : 3, stride = 1 + i / 2 % 2, begin = i / 4 % kernel;
    const auto axis = [&](int64_t out) {
      return WindowSteps{(out - 1) * stride + kernel - 2 * begin, out, kernel, stride, 1, begin, 0};
    };
    // Large pictures have bands that reach over neither the top nor the bottom.
    const bool large = i % 6 == 5;
    p.x = axis(large ? 33 + i : 6 + i % 12), p.y = axis(large ? 10 : 3 + i % 5);
    p.x.step = p.place(), p.y.step = p.x.in * p.place();
    Convolution c(p, 17 + i);
    SCOPED_TRACE(testing::PrintToString(p));
    std::vector<float> expected;
    for (const MatmulRow& row : rows_for(c.p)) {
      expect_same(c, row, 1 + i % 3, expected);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// Lines of taps above and below the picture, which are left out: small pictures, kernels that reach
// far over them, more padding than picture.
TEST(Convolutions, LinesOfTapsInThePadding) {
  struct Lines {
    int64_t in, kernel, stride, begin, end;  // padding
  };
  const Lines all[] = {{7, 3, 1, 1, 1}, {14, 3, 1, 1, 1}, {14, 3, 2, 1, 1}, {14, 3, 2, 0, 1},
                       {9, 5, 1, 2, 2}, {15, 5, 2, 2, 2}, {1, 3, 1, 1, 1},  {2, 3, 1, 1, 1},
                       {3, 7, 1, 3, 3}, {2, 5, 1, 4, 4},  {1, 4, 1, 3, 3},  {5, 3, 1, 2, 5},
                       {12, 7, 3, 3, 3}};
  int i = 0;
  for (const Lines& y : all) {
    for (const int64_t width : {6, 7, 14, 19}) {
      Picture p;
      p.images = 1 + i % 2;
      p.channels = 3 + i % 7;
      p.gap = i % 5 == 0 ? 2 : 0;
      p.y = {
          y.in, (y.in + y.begin + y.end - y.kernel) / y.stride + 1, y.kernel, y.stride, 1, y.begin,
          0};
      p.x = {width, width, 3, 1, 1, 1, 0};
      p.set_steps();
      Convolution c(p, 1 + i * 7 % 50);
      SCOPED_TRACE(testing::PrintToString(p));
      std::vector<float> expected;
      for (const MatmulRow& row : rows_for(p)) {
        expect_same(c, row, 1 + i % 3, expected);
        if (testing::Test::HasFatalFailure()) return;
      }
      ++i;
    }
  }
}

// As in the reference, no weight is multiplied with a line that is not there: all but those of the
// middle line are infinite.
TEST(Convolutions, InfiniteWeightsOfLinesInThePadding) {
  for (const int64_t columns : {5, 40}) {
    Picture p;
    p.channels = 4;
    p.x = {11, 9, 3, 1, 1, 0, 0};
    p.y = {1, 1, 3, 1, 1, 1, 0};
    p.set_steps();
    const int64_t line = p.x.kernel * p.channels * columns;
    Convolution c(p, columns, Convolution::as_is, [&](float* w) {
      for (const int64_t y : {0, 2}) std::fill_n(w + y * line, line, kInfinity);
    });
    std::vector<float> expected;
    for (const MatmulRow& row : rows_for(p)) expect_same(c, row, 1, expected);
  }
}

// What first layers do: colours in planes, every second place, lines of every length.
TEST(Convolutions, PlanesOfColours) {
  for (int i = 0; i < 24; ++i) {
    const int64_t stride = 1 + i % 2, out = 1 + i * 3 / 2, begin = i / 2 % 3;
    Picture p;
    p.images = 1 + i % 2, p.channels = 3;
    p.x = {(out - 1) * stride + 3 - begin, out, 3, stride, 1, begin, 0};
    p.y = {7, stride == 1 ? 7 : 4, 3, stride, 1, 1, 0};
    p.set_steps();
    Convolution c(p, 12 + i);
    SCOPED_TRACE(testing::PrintToString(p));
    std::vector<float> expected;
    for (const MatmulRow& row : rows_for(p)) {
      expect_same(c, row, 1 + i % 3, expected);
      if (testing::Test::HasFatalFailure()) return;
      EXPECT_EQ(c.run(row, 2, {}, nullptr, nullptr, true), expected) << row.name << ", of planes";
    }
  }
}

// A run of channels by itself, between guard pages: places of it stand for `repeat` on both axes.
struct LonePart {
  LonePart(const Picture& p, int64_t channels, int64_t repeat, uint32_t seed)
      : rows(p.y.in / repeat),
        columns(p.x.in / repeat),
        values(p.images * rows * columns * channels),
        part{values.data(),      channels, repeat, rows * columns * channels,
             columns * channels, channels} {
    values.randomize(seed);
    values.read_only();
  }
  int64_t rows, columns;
  GuardedFloats values;
  WindowPart part;
};

// Pictures that fit bands and others.
Picture joined_picture(std::mt19937& random, int i) {
  constexpr int64_t kMostRepeat = 8;
  const int64_t stride = i % 4 == 1 ? 1 : 2;
  Picture p = picture_of(random, 0);
  for (WindowSteps* axis : {&p.y, &p.x}) {
    const int64_t extent = kMostRepeat * (i / 16 + 1);
    if (i % 2 == 1) *axis = {extent, ceil_div(extent, stride), 3, stride, 1, 1, 0};
    axis->in = round_up(axis->in, kMostRepeat);
  }
  return p;
}

TEST(Convolutions, ChannelsInPartsHaveTheSameBits) {
  std::mt19937 random(17);
  for (int i = 0; i < 48; ++i) {
    Picture p = joined_picture(random, i);
    std::vector<std::unique_ptr<LonePart>> parts;
    for (const int64_t repeat : {8, 1, 4, 2}) {
      const auto channels = static_cast<int64_t>(random() % (repeat == 1 ? 40 : 9)) + 1;
      const auto seed = static_cast<uint32_t>(random());
      parts.push_back(std::make_unique<LonePart>(p, channels, repeat, seed));
      p.channels += channels;
    }
    p.set_steps();
    const auto draw = [&](float* x) {
      for (int64_t place = 0; place < p.images * p.y.in * p.x.in; ++place) {
        const int64_t image = place / p.x.in / p.y.in, row = place / p.x.in % p.y.in;
        float* to = x + place * p.place();
        for (const auto& lone : parts) {
          const float* from = lone->part.at(image, row, place % p.x.in);
          to = std::copy_n(from, lone->part.channels, to);
        }
      }
    };
    Convolution c(p, static_cast<int64_t>(random() % 40) + 1, draw);
    SCOPED_TRACE(testing::PrintToString(p));
    std::vector<float> expected;
    for (const MatmulRow& row : rows_for(p)) {
      c.parts.clear();
      expect_same(c, row, 1 + i % 3, expected);
      for (const auto& lone : parts) c.parts.push_back(lone->part);
      EXPECT_EQ(c.run(row, 1 + i % 3), expected) << row.name;
      EXPECT_EQ(c.run(row, 2, {3, 8, 1}), expected) << row.name << ", another cut";
      if (testing::Test::HasFailure()) return;
    }
  }
}

// A scale for each channel and a sum behind it, in the kernels of bands, of gathered windows and as
// a pass over C.
TEST(Convolutions, ProgramsHaveTheSameBitsOnEveryRow) {
  TileProgram text;
  text.operands = {Broadcast::none, Broadcast::none, Broadcast::per_column};
  const int16_t scaled = text.apply(TileOp::mul, text.operand(0), text.operand(2));
  text.apply(TileOp::hard_swish, text.apply(TileOp::sub, scaled, text.operand(1)));
  TileProgram columns;  // which kernels of pairs end in
  columns.operands = {Broadcast::none, Broadcast::per_column};
  const int16_t ramp = columns.apply(TileOp::hard_swish, columns.operand(0));
  columns.apply(TileOp::mul, ramp, columns.operand(1));
  const EltProgram programs[] = {compile(text), compile(columns)};
  std::mt19937 random(11);
  for (int i = 0; i < 60; ++i) {
    const EltProgram& program = programs[i % 2];
    Picture p = picture_of(random, static_cast<int64_t>(random() % 20) + 1);
    if (i % 3 == 0) p.y = p.x = {9, 9 + i / 4, 3, 1, 1, 1, 0}, p.set_steps();
    Convolution c(p, static_cast<int64_t>(random() % 40) + 1);
    SCOPED_TRACE(testing::PrintToString(p));
    std::vector<float> expected;
    for (const MatmulRow& row : rows_for(c.p)) {
      std::vector<float> got = c.run(row, 1);
      const auto operands = c.operands_of(&program, got.data());
      eltwise_strip(row.isa)(program, {operands.data(), got.data(), c.n, p.outputs(), c.n});
      if (expected.empty()) expected = got;
      EXPECT_EQ(got, expected) << row.name;
      EXPECT_EQ(c.run(row, 1 + i % 3, {}, &program), expected) << row.name << " in the kernel";
    }
  }
}

// The same convolution by transforms; `pad` in front, any extent of the output.
struct Winograd {
  explicit Winograd(Convolution& convolution) : c(convolution), transposed(c.w.size()) {
    for (int64_t j = 0; j < c.n; ++j) {  // [n, channels, 9] of [9 * channels, n]
      for (int64_t i = 0; i < c.p.channels; ++i) {
        for (int64_t t = 0; t < 9; ++t) {
          transposed[static_cast<size_t>((j * c.p.channels + i) * 9 + t)] =
              c.w[(t * c.p.channels + i) * c.n + j];
        }
      }
    }
  }

  std::vector<float> run(const MatmulRow& row, int threads) {
    const int64_t k = kWinogradPoints * c.p.channels;
    const std::vector<float> matrix = winograd_weights(transposed.data(), c.n, c.p.channels);
    GuardedFloats packed(packed_floats(row, c.n, k));
    pack_b(row, c.n, k, matrix.data(), c.n, 1, packed.data());
    TileProgram relu;
    relu.operands = {Broadcast::none};
    relu.apply(TileOp::relu, relu.operand(0));
    const EltProgram program = compile(relu);
    WinogradArgs args{};
    args.x = c.x.data(), args.w = packed.data(), args.out = c.out.data();
    args.bias = c.bias.data(), args.residual = c.residual.data();
    args.y_axis = c.p.y, args.x_axis = c.p.x;
    args.images = c.p.images, args.channels = c.p.channels, args.n = c.n;
    args.image_step = c.p.image_step();
    args.out_stride = c.n, args.residual_stride = c.n;
    args.program = &program;
    c.out.fill(12345);
    const Job job = plan_winograd(row, args);
    Team(threads, scratch_bytes(args)).run({&job, 1});
    return {c.out.data(), c.out.data() + c.out.size()};
  }

  Convolution& c;
  std::vector<float> transposed;
};

TEST(Convolutions, WinogradIsRightAndHasTheSameBitsOnEveryRow) {
  std::mt19937 random(13);
  for (int i = 0; i < 60; ++i) {
    Picture p = picture_of(random, static_cast<int64_t>(random() % 40) + 1);
    for (WindowSteps* axis : {&p.y, &p.x}) {
      axis->kernel = 3, axis->stride = 1, axis->dilation = 1;
      axis->begin = static_cast<int64_t>(random() % 3);
    }
    Convolution c(p, static_cast<int64_t>(random() % 70) + 1);
    Winograd winograd(c);
    SCOPED_TRACE(testing::PrintToString(c.p));
    std::vector<float> expected;
    for (const MatmulRow& row : matmul_rows()) {
      if (!this_device().has(row.isa)) continue;
      const std::vector<float> got = winograd.run(row, 1 + i % 3);
      c.expect_right();
      if (testing::Test::HasFatalFailure()) return;
      if (expected.empty()) expected = got;
      EXPECT_EQ(got, expected) << row.name;
    }
  }
}

struct Channelwise {
  explicit Channelwise(const Picture& picture)
      : p(picture),
        x(p.size()),
        w(p.taps() * p.channels),
        bias(p.channels),
        residual(p.outputs() * p.channels),
        out(p.outputs() * p.channels) {
    x.randomize(1), w.randomize(2), bias.randomize(3), residual.randomize(4);
    x.read_only(), w.read_only(), bias.read_only(), residual.read_only();
  }

  std::vector<float> run(const ChannelwiseRow& row, ChannelwiseOp op, bool padding) {
    TileProgram relu;
    relu.operands = {Broadcast::none};
    relu.apply(TileOp::relu, relu.operand(0));
    const EltProgram program = compile(relu);
    return run(row, op, padding, op == ChannelwiseOp::depthwise ? &program : nullptr);
  }
  std::vector<float> run(const ChannelwiseRow& row, ChannelwiseOp op, bool padding,
                         const EltProgram* program, GuardedBytes* bytes = nullptr,
                         EltType bytes_type = EltType::u8) {
    ChannelwiseArgs args{};
    args.op = op;
    args.x = x.data();
    args.out = out.data(), args.out_stride = p.channels;
    args.rows = p.y, args.columns = p.x;
    args.images = p.images, args.channels = p.channels, args.image_step = p.image_step();
    args.count_padding = padding;
    if (op == ChannelwiseOp::depthwise) {
      args.w = w.data(), args.bias = bias.data();
      args.residual = residual.data(), args.residual_stride = p.channels;
    }
    if (program != nullptr) finish_with(args, *program);
    if (bytes != nullptr) {
      args.out = nullptr, args.bytes = bytes->data(), args.bytes_type = bytes_type;
    }
    out.fill(12345);
    plan_channelwise(row, args);
    auto with_scratch = static_cast<const KernelRow<ChannelwiseArgs>&>(row);
    with_scratch.scratch_bytes = scratch_bytes(args);
    run_all_tiles(with_scratch, args);
    return {out.data(), out.data() + out.size()};
  }

  double expected(ChannelwiseOp op, bool padding, int64_t output, int64_t channel) const {
    double sum = op == ChannelwiseOp::max ? -static_cast<double>(kInfinity) : 0;
    int64_t inside = 0;
    for (int64_t t = 0; t < p.taps(); ++t) {
      const int64_t at = p.at(output, t);
      if (at < 0) continue;
      const double v = x[at + channel];
      ++inside;
      if (op == ChannelwiseOp::depthwise) sum += v * w[t * p.channels + channel];
      if (op == ChannelwiseOp::average) sum += v;
      if (op == ChannelwiseOp::max) sum = std::max(sum, v);
    }
    if (op == ChannelwiseOp::average) {
      const int64_t count = padding ? p.taps() : inside;
      return count == 0 ? 0 : sum / static_cast<double>(count);
    }
    if (op == ChannelwiseOp::max) return sum;
    return std::max(sum + bias[channel] + residual[output * p.channels + channel], 0.0);
  }

  void expect_right(ChannelwiseOp op, bool padding) const {
    for (int64_t o = 0; o < p.outputs(); ++o) {
      for (int64_t c = 0; c < p.channels; ++c) {
        const double want = expected(op, padding, o, c);
        const float got = out[o * p.channels + c];
        if (std::isinf(want)) {
          ASSERT_EQ(got, want);
        } else {
          ASSERT_NEAR(got, want, 2e-5) << "output " << o << ", channel " << c;
        }
      }
    }
  }

  Picture p;
  GuardedFloats x, w, bias, residual, out;
};

TEST(ChannelwiseWindows, EveryRowIsRightAndHasTheSameBits) {
  std::mt19937 random(11);
  const EltProgram quantized = compile(to_bytes());
  for (int i = 0; i < 150; ++i) {
    Channelwise c(picture_of(random, static_cast<int64_t>(random() % 50) + 1));
    SCOPED_TRACE(testing::PrintToString(c.p));
    for (const ChannelwiseOp op :
         {ChannelwiseOp::depthwise, ChannelwiseOp::max, ChannelwiseOp::average}) {
      const bool padding = random() % 2 == 0;
      std::vector<float> expected;
      for (const ChannelwiseRow& row : channelwise_rows()) {
        if (!this_device().has(row.isa)) continue;
        const std::vector<float> got = c.run(row, op, padding);
        c.expect_right(op, padding);
        if (testing::Test::HasFatalFailure()) return;
        if (expected.empty()) expected = got;
        EXPECT_EQ(got, expected) << row.name << " op " << static_cast<int>(op);
        GuardedBytes bytes(c.out.size());
        c.run(row, op, padding, &quantized, &bytes);
        expect_bytes(bytes, expected);
      }
    }
  }
}

// The kernels for whole windows of 3 and 5, wider than a group, and every way to end, in floats and
// in bytes, against the same sums followed by the program.
std::vector<TileProgram> endings() {
  std::vector<TileProgram> all(7);
  for (TileProgram& p : all) p.operands = {Broadcast::none};
  const auto affine = [](TileProgram& p, int16_t x, float scale, float shift) {
    return p.apply(TileOp::add, p.apply(TileOp::mul, x, p.constant(scale)), p.constant(shift));
  };
  const auto x = [&](int i) { return all[static_cast<size_t>(i)].operand(0); };
  all[0].apply(TileOp::hard_swish, x(0));
  affine(all[1], all[1].apply(TileOp::hard_swish, x(1)), 0.7F, 0.1F);
  affine(all[2], all[2].apply(TileOp::relu, affine(all[2], x(2), 1.3F, -0.2F)), -2, 0.3F);
  affine(all[3], x(3), 0.3F, 0.4F);
  affine(all[4], affine(all[4], x(4), 3, 1), 0.5F, -1);
  all[5].apply(TileOp::sigmoid, x(5));
  all[6].apply(TileOp::relu, affine(all[6], x(6), -1, 0.1F));
  return all;
}

TEST(ChannelwiseWindows, WholeWindowsAndEndingsHaveTheSameBits) {
  std::mt19937 random(3);
  const std::vector<TileProgram> programs = endings();
  for (int i = 0; i < 60; ++i) {
    Picture p = picture_of(random, static_cast<int64_t>(random() % 40) + 1);
    for (WindowSteps* axis : {&p.y, &p.x}) {
      axis->in = static_cast<int64_t>(random() % 20) + 1;
      axis->kernel = i % 2 == 0 ? 3 : 5, axis->stride = i / 2 % 2 + 1, axis->dilation = 1;
      axis->begin = static_cast<int64_t>(random() % 3);
      axis->out = static_cast<int64_t>(random() % 20) + 1;
    }
    p.x.step = p.place(), p.y.step = p.x.in * p.place();
    SCOPED_TRACE(testing::PrintToString(p));
    Channelwise c(p);
    const EltProgram program = compile(programs[static_cast<size_t>(i) % programs.size()]);
    std::vector<float> expected;
    for (const ChannelwiseRow& row : channelwise_rows()) {
      if (!this_device().has(row.isa)) continue;
      std::vector<float> want = c.run(row, ChannelwiseOp::depthwise, false, nullptr);
      const EltOperand sums{want.data(), p.channels, 1};
      eltwise_strip(row.isa)(program, {&sums, want.data(), p.channels, p.outputs(), p.channels});
      const std::vector<float> got = c.run(row, ChannelwiseOp::depthwise, false, &program);
      EXPECT_EQ(got, want) << row.name;
      GuardedBytes truths(c.out.size());
      c.run(row, ChannelwiseOp::depthwise, false, &program, &truths, EltType::b8);
      for (int64_t o = 0; o < truths.size(); ++o) {
        ASSERT_EQ(truths[o], want[static_cast<size_t>(o)] != 0) << row.name << " in bytes, " << o;
      }
      if (expected.empty()) expected = got;
      EXPECT_EQ(got, expected) << row.name;
    }
    c.run(channelwise_rows().back(), ChannelwiseOp::depthwise, false);
    c.expect_right(ChannelwiseOp::depthwise, false);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Long rows of taps, several groups of outputs and bands of lines, edges that reach over more than
// one group; the last picture is too large for L2.
TEST(ChannelwiseWindows, WidePicturesHaveTheSameBits) {
  std::mt19937 random(5);
  const int64_t kernels[] = {1, 2, 3, 5, 7, 9, 15, 31};
  for (int i = 0; i < 33; ++i) {
    const bool large = i == 32;
    Picture p;
    p.images = large ? 1 : 1 + i % 2;
    p.channels = large ? 130 : static_cast<int64_t>(random() % 40) + 1;
    p.gap = i % 3 == 0 ? 3 : 0;
    p.y.in = large ? 24 : static_cast<int64_t>(random() % 20) + 1;
    p.x.in = large ? 90 : static_cast<int64_t>(random() % 70) + 1;
    for (WindowSteps* axis : {&p.y, &p.x}) {
      axis->kernel = axis == &p.x ? kernels[i % 8] : kernels[random() % 4];
      axis->stride = 1 + i / 8 % 3;
      axis->begin = static_cast<int64_t>(random()) % axis->kernel;
      axis->out = ceil_div(axis->in, axis->stride);
    }
    p.x.step = p.place(), p.y.step = p.x.in * p.place();
    SCOPED_TRACE(testing::PrintToString(p));
    Channelwise c(p);
    const auto run = [&](const ChannelwiseRow& row) {
      return c.run(row, ChannelwiseOp::depthwise, false);
    };
    const std::vector<float> expected = run(channelwise_rows().back());
    c.expect_right(ChannelwiseOp::depthwise, false);
    if (testing::Test::HasFatalFailure()) return;
    for (const ChannelwiseRow& row : channelwise_rows()) {
      if (!this_device().has(row.isa)) continue;
      EXPECT_EQ(run(row), expected) << row.name;
    }
  }
}

}  // namespace
}  // namespace planck
