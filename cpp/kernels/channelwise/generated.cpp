// Depthwise convolutions by generated kernels (jit/taps.h). A tile is a band of lines. Its channels
// are gone through by whole cache lines, each along all lines of the band, so that a window finds
// the rows that it shares with the one above in L1.
#include "kernels/channelwise/generated.h"

#include <algorithm>
#include <bit>

#include "base/checked.h"
#include "kernels/channelwise/tile.h"
#include "kernels/jit/taps.h"
#include "kernels/simd/taps.h"

namespace planck {
namespace {

constexpr int64_t kLine = 16;       // floats of a cache line
constexpr int64_t kMostRuns = 256;  // of a tile, each at least one group of outputs

// Neighbouring outputs that one kernel works on together: whose windows have places [from, to).
struct Group {
  int64_t first;
  int outputs, from, to;
};

// Outputs [first, last) of a line in groups that are about as long as each other.
void for_groups(const WindowSteps& columns, int most, int64_t first, int64_t last,
                const auto& visit) {
  const int64_t count = last - first, groups = ceil_div(count, most);
  for (int64_t i = 0, at = first; i < groups; ++i) {
    const int64_t outputs = count / groups + (i < count % groups ? 1 : 0);
    const int64_t left = at * columns.stride - columns.begin;
    const int64_t places = (outputs - 1) * columns.stride + columns.kernel;
    const int64_t from = std::clamp<int64_t>(-left, 0, places);
    const int64_t to = std::clamp<int64_t>(columns.in - left, from, places);
    const bool any = from < to;
    visit(Group{at, static_cast<int>(outputs), any ? static_cast<int>(from) : 0,
                any ? static_cast<int>(to) : 0});
    at += outputs;
  }
}

const ChannelwiseKernel* find(const ChannelwiseKernels& kernels, const Group& g) {
  for (int i = 0; i < kernels.count; ++i) {
    const ChannelwiseKernel& k = kernels.all[i];
    if (k.outputs == g.outputs && k.from == g.from && k.to == g.to) return &k;
  }
  return nullptr;
}

// --- a tile

// Groups of one kernel in a row are one call. How far its pointers are from those of the tile.
struct Run {
  const ChannelwiseKernel* kernel;
  int64_t groups;
  int64_t x, out, residual;
};
struct Runs {
  Run all[kMostRuns];
  int64_t count = 0;
};

void find_runs(const ChannelwiseArgs& a, int most, const ChannelwiseTile& t, Runs& runs) {
  const int64_t out_step = a.bytes != nullptr ? a.channels : a.out_stride;
  for_groups(a.columns, most, t.first, t.last, [&](const Group& g) {
    const ChannelwiseKernel* kernel = find(a.kernels, g);
    if (runs.count > 0 && runs.all[runs.count - 1].kernel == kernel) {
      ++runs.all[runs.count - 1].groups;
      return;
    }
    const int64_t at = g.first - t.first;
    runs.all[runs.count++] = {kernel, 1, at * a.columns.stride * a.columns.step, at * out_step,
                              at * a.residual_stride};
  });
}

// Pointers to channel 0 of the tile's first output in a line.
jit::TapsCall line_of(const ChannelwiseArgs& a, const ChannelwiseTile& t, int64_t index,
                      float* sums) {
  const int64_t image = index / a.rows.out, y = index % a.rows.out;
  const int64_t top = y * a.rows.stride - a.rows.begin;
  const int64_t left = t.first * a.columns.stride - a.columns.begin;
  const Taps rows = taps_inside(a.rows, top);
  const int64_t row_step = a.rows.dilation * a.rows.step, skipped = rows.from * row_step;
  const int64_t place = index * a.columns.out + t.first;
  jit::TapsCall call;
  call.x = a.x + image * a.image_step + top * a.rows.step + skipped + left * a.columns.step;
  call.w = a.w + rows.from * a.columns.kernel * a.channels;
  call.out = sums != nullptr ? sums : a.out + place * a.out_stride;
  call.bias = a.bias;
  if (a.residual != nullptr) call.residual = a.residual + place * a.residual_stride;
  call.row_step = row_step * int64_t{sizeof(float)};
  call.rows = rows.to - rows.from;
  call.ahead = (a.kernels.ahead_rows * a.rows.step - skipped) * int64_t{sizeof(float)};
  return call;
}

void run_line(const Runs& runs, const jit::TapsCall& line, int64_t channel, bool whole) {
  jit::TapsCall call = line;
  call.w += channel;
  if (call.bias != nullptr) call.bias += channel;
  for (int64_t i = 0; i < runs.count; ++i) {
    const Run& run = runs.all[i];
    call.x = line.x + run.x + channel;
    call.out = line.out + run.out + channel;
    if (line.residual != nullptr) call.residual = line.residual + run.residual + channel;
    call.groups = run.groups;
    (whole ? run.kernel->whole : run.kernel->part)(&call);
  }
}

// Runs the program over the sums of a tile of one line, where they are.
void finish(const ChannelwiseArgs& a, const ChannelwiseTile& t, float* scratch) {
  const int64_t place = (t.first_line * a.columns.out + t.first) * a.out_stride;
  float* sums = scratch != nullptr ? scratch : a.out + place;
  const int64_t stride = scratch != nullptr ? a.channels : a.out_stride;
  const EltOperand operand{sums, stride, 1};
  EltStrip strip{&operand, sums, stride, t.last - t.first, a.channels};
  if (a.bytes != nullptr) {
    strip.out = static_cast<char*>(a.bytes) + place;
    strip.out_row_stride = a.out_stride;
    strip.out_type = a.bytes_type;
  }
  a.strip(a.program, strip);
}

template <Isa isa>
void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& a = *static_cast<const ChannelwiseArgs*>(raw);
  constexpr int64_t kFloats = jit::taps_floats(isa);
  const ChannelwiseTile t = tile_of(a, tile);
  float* sums = nullptr;
  if (a.bytes != nullptr) sums = static_cast<float*>(static_cast<void*>(worker.scratch));
  Runs runs;
  find_runs(a, jit::taps_outputs(isa), t, runs);
  const int64_t lines = t.last_line - t.first_line;
  jit::TapsCall calls[kMostChannelwiseLines];
  for (int64_t y = 0; y < lines; ++y) calls[y] = line_of(a, t, t.first_line + y, sums);
  for (int64_t line = 0; line < a.channels; line += kLine) {
    const int64_t end = std::min(line + kLine, a.channels);
    for (int64_t y = 0; y < lines; ++y) {
      for (int64_t c = line; c < end; c += kFloats) {
        run_line(runs, calls[y], c, c + kFloats <= a.channels);
      }
    }
  }
  if (a.finish == ChannelwiseFinish::program) finish(a, t, sums);
}

// --- the plan

jit::TapsAffine affine_of(const ChannelwiseAffine& affine) {
  return {affine.used, std::bit_cast<uint32_t>(affine.scale),
          std::bit_cast<uint32_t>(affine.shift)};
}

jit::TapsRecipe recipe_of(Isa isa, const ChannelwiseArgs& a) {
  constexpr int64_t kFloat = sizeof(float);
  jit::TapsRecipe r;
  r.isa = isa;
  r.taps = static_cast<int>(a.columns.kernel);
  r.stride = static_cast<int>(a.columns.stride);
  r.place_step = a.columns.step * kFloat;
  r.tap_step = a.channels * kFloat;
  r.out_step = (a.bytes != nullptr ? a.channels : a.out_stride) * kFloat;
  r.bias = a.bias != nullptr;
  r.residual = a.residual != nullptr;
  if (r.residual) r.residual_step = a.residual_stride * kFloat;
  r.before = affine_of(a.before);
  r.after = affine_of(a.after);
  if (a.finish == ChannelwiseFinish::relu) r.function = jit::TapsFunction::relu;
  if (a.finish == ChannelwiseFinish::hard_swish) r.function = jit::TapsFunction::hard_swish;
  return r;
}

// False where there is no such kernel.
bool add_kernel(jit::TapsRecipe r, const ChannelwiseArgs& a, const Group& g,
                ChannelwiseKernels& kernels) {
  const int floats = jit::taps_floats(r.isa);
  r.outputs = g.outputs, r.from = g.from, r.to = g.to;
  if (kernels.ahead_rows > 0) {
    r.prefetches = static_cast<int>(ceil_div(int64_t{r.outputs} * r.stride, a.rows.kernel));
  }
  ChannelwiseKernel kernel{g.outputs, g.from, g.to, nullptr, nullptr};
  r.lanes = floats;
  if (a.channels >= floats) kernel.whole = jit::taps_kernel(r);
  r.lanes = static_cast<int>(a.channels % floats);
  if (r.lanes > 0) kernel.part = jit::taps_kernel(r);
  if (kernel.whole == nullptr && a.channels >= floats) return false;
  if (kernel.part == nullptr && r.lanes > 0) return false;
  kernels.all[kernels.count++] = kernel;
  return true;
}

}  // namespace

void generate_channelwise(Isa isa, ChannelwiseArgs& args) {
  const WindowSteps& c = args.columns;
  if (isa < Isa::avx2 || args.op != ChannelwiseOp::depthwise || c.dilation != 1 ||
      c.kernel > jit::kMostTaps || c.stride > c.kernel || args.channels == 0) {
    return;
  }
  constexpr int64_t kFar = 1 << 18;  // floats; what is larger comes from L3 or memory
  const int most = jit::taps_outputs(isa);
  if (ceil_div(args.places, most) > kMostRuns) return;
  ChannelwiseKernels kernels{};
  if (args.rows.kernel > 1 && args.images * args.image_step > kFar) {
    kernels.ahead_rows =
        args.lines * args.rows.stride + (args.rows.kernel - 1) * args.rows.dilation;
  }
  const jit::TapsRecipe recipe = recipe_of(isa, args);
  bool all = true;
  for (int64_t first = 0; first < c.out && all; first += args.places) {
    for_groups(c, most, first, std::min(first + args.places, c.out), [&](const Group& g) {
      if (!all || find(kernels, g) != nullptr) return;
      all = kernels.count < ChannelwiseKernels::kMost && add_kernel(recipe, args, g, kernels);
    });
  }
  if (!all) return;
  args.kernels = kernels;
  args.generated = isa >= Isa::avx512 ? run_tile<Isa::avx512> : run_tile<Isa::avx2>;
}

}  // namespace planck
