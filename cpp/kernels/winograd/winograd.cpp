// A tile is a group of patches times a group of weight panels. It transforms its patches, which is
// cheap beside the products, multiplies point by point, and transforms each panel's columns back.
#include <algorithm>

#include "base/checked.h"
#include "kernels/eltwise/rows.h"
#include "kernels/winograd/rows.h"

namespace planck {
namespace {

WinogradFns fns_of(Isa isa) {
  struct Row {
    Isa isa;
    WinogradFns fns;
  };
  constexpr Row kRows[] = {
#define PLANCK_WINOGRAD(name, level) {Isa::level, {name##_input, name##_output}},
#include "kernels/winograd/kernels.inc"
#undef PLANCK_WINOGRAD
  };
  for (const Row& row : kRows) {
    if (row.isa <= isa) return row.fns;
  }
  throw InternalError("no transforms for ", isa);
}

// Where a patch lies: its image and its first output.
struct Place {
  int64_t image, y, x;
};
Place place_of(const WinogradArgs& args, int64_t patch) {
  const int64_t across = args.plan.across, down = args.plan.down;
  return {patch / (across * down), patch / across % down * kWinogradOut,
          patch % across * kWinogradOut};
}

WinogradPatch patch_of(const WinogradArgs& args, const Place& at) {
  const int64_t y = at.y - args.y_axis.begin, x = at.x - args.x_axis.begin;
  const auto from = [](int64_t first) { return std::max<int64_t>(-first, 0); };
  return {args.x + at.image * args.image_step + y * args.y_axis.step + x * args.x_axis.step,
          args.y_axis.step,
          args.x_axis.step,
          from(y),
          args.y_axis.in - y,
          from(x),
          args.x_axis.in - x};
}

void transform_patches(const WinogradArgs& args, int64_t first, int64_t count, float* v) {
  for (int64_t i = 0; i < count; ++i) {
    args.plan.fns.input({patch_of(args, place_of(args, first + i)), args.channels,
                         v + i * args.plan.pitch, args.plan.patches * args.plan.pitch});
  }
}

// Point by point, patches x channels times channels x columns of one panel.
void multiply_panel(const WinogradArgs& args, int64_t count, int64_t panel, int64_t columns,
                    const float* v, float* m) {
  const jit::GemmTile& tile = args.plan.tile;
  const int64_t matrix = args.channels * tile.columns;
  jit::GemmBlock block;
  block.rows = count;
  block.columns = columns;
  block.panel_stride = kWinogradPoints * matrix;
  block.call.k = args.channels;
  block.call.a_stride = args.plan.pitch;
  block.call.c_stride = tile.columns;
  for (int64_t point = 0; point < kWinogradPoints; ++point) {
    block.call.a = v + point * args.plan.patches * args.plan.pitch;
    block.call.b = args.w + panel * block.panel_stride + point * matrix;
    block.call.c = m + point * args.plan.patches * tile.columns;
    block.prefetch = block.call.b + matrix;  // the next point's weights follow
    block.prefetch_bytes = matrix * static_cast<int64_t>(sizeof(float));
    jit::multiply(tile, block);
  }
}

void store_panel(const WinogradArgs& args, int64_t first, int64_t count, int64_t column,
                 int64_t columns, const float* m) {
  const int64_t width = args.plan.tile.columns;
  for (int64_t i = 0; i < count; ++i) {
    const Place at = place_of(args, first + i);
    const int64_t place = (at.image * args.y_axis.out + at.y) * args.x_axis.out + at.x;
    WinogradOutput o{};
    o.m = m + i * width;
    o.point_step = args.plan.patches * width;
    o.channels = columns;
    if (args.bias != nullptr) o.bias = args.bias + column;
    o.out = args.out + place * args.out_stride + column;
    o.out_x = args.out_stride;
    o.out_y = args.x_axis.out * args.out_stride;
    if (args.residual != nullptr) {
      o.residual = args.residual + place * args.residual_stride + column;
      o.residual_x = args.residual_stride;
      o.residual_y = args.x_axis.out * args.residual_stride;
    }
    o.rows = std::min<int64_t>(kWinogradOut, args.y_axis.out - at.y);
    o.columns = std::min<int64_t>(kWinogradOut, args.x_axis.out - at.x);
    o.relu = args.plan.relu;
    args.plan.fns.output(o);
    if (args.plan.strip == nullptr) continue;
    for (int64_t row = 0; row < o.rows; ++row) {
      float* out = o.out + row * o.out_y;
      const EltOperand sums{out, args.out_stride, 1};
      args.plan.strip(*args.program, {&sums, out, args.out_stride, o.columns, columns});
    }
  }
}

void run_tile(const void* raw, int64_t tile, const Worker& worker) {
  const auto& args = *static_cast<const WinogradArgs*>(raw);
  const WinogradArgs::Plan& plan = args.plan;
  const int64_t group = tile % plan.panel_groups;
  const int64_t all = args.images * plan.down * plan.across;
  const int64_t first = tile / plan.panel_groups * plan.patches;
  const int64_t count = std::min(plan.patches, all - first);
  auto* v = reinterpret_cast<float*>(worker.scratch);
  float* m = v + kWinogradPoints * plan.patches * plan.pitch;
  transform_patches(args, first, count, v);
  const int64_t panels = ceil_div(args.n, plan.tile.columns);
  const int64_t last = std::min(panels, (group + 1) * plan.panels);
  for (int64_t panel = group * plan.panels; panel < last; ++panel) {
    const int64_t column = panel * plan.tile.columns;
    const int64_t columns = std::min<int64_t>(plan.tile.columns, args.n - column);
    multiply_panel(args, count, panel, columns, v, m);
    store_panel(args, first, count, column, columns, m);
  }
}

// Transformed patches take half of L2, but give full register tiles; enough tiles for a small team.
void choose_cut(WinogradArgs& args) {
  WinogradArgs::Plan& plan = args.plan;
  constexpr int64_t kEnough = 8;
  const int64_t all = std::max<int64_t>(args.images * plan.down * plan.across, 1);
  const int64_t fits =
      this_device().l2_bytes / 2 / (kWinogradPoints * plan.pitch * int64_t{sizeof(float)});
  const int64_t least = plan.tile.rows;
  plan.patches = std::clamp<int64_t>(fits / least * least, least, 8 * least);
  plan.patches = std::min(plan.patches, all);
  plan.patch_groups = ceil_div(all, plan.patches);
  plan.patches = ceil_div(all, plan.patch_groups);  // even groups
  const int64_t panels = ceil_div(args.n, plan.tile.columns);
  plan.panels = std::clamp<int64_t>(panels * plan.patch_groups / kEnough, 1, panels);
  plan.panel_groups = ceil_div(panels, plan.panels);
}

}  // namespace

Job plan_winograd(const MatmulRow& row, WinogradArgs& args) {
  WinogradArgs::Plan& plan = args.plan;
  plan = {};
  plan.tile = tile_of(row);
  plan.fns = fns_of(row.isa);
  plan.relu = args.program != nullptr && is_only(*args.program, EltOp::relu);
  if (args.program != nullptr && !plan.relu) plan.strip = eltwise_strip(row.isa);
  plan.down = ceil_div(args.y_axis.out, kWinogradOut);
  plan.across = ceil_div(args.x_axis.out, kWinogradOut);
  // Rows of a register tile apart by a multiple of 1 KiB would share few cache sets.
  plan.pitch = round_up(args.channels, 16) + 16;
  choose_cut(args);
  const int64_t floats =
      checked_mul(kWinogradPoints * plan.patches, plan.pitch + plan.tile.columns, "patches");
  plan.scratch_bytes = checked_mul(floats, sizeof(float), "patches");
  const int64_t patches = checked_mul(args.images, plan.down * plan.across, "patches");
  const int64_t groups = patches == 0 ? 0 : plan.patch_groups;
  return {run_tile, &args, checked_mul(groups, plan.panel_groups, "tiles")};
}

std::vector<float> winograd_weights(const float* w, int64_t n, int64_t channels) {
  constexpr double kG[6][3] = {{1.0 / 4, 0, 0},
                               {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                               {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                               {1.0 / 24, 1.0 / 12, 1.0 / 6},
                               {1.0 / 24, -1.0 / 12, 1.0 / 6},
                               {0, 0, 1}};
  std::vector<float> out(static_cast<size_t>(kWinogradPoints * channels * n));
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t c = 0; c < channels; ++c) {
      const float* taps = w + (j * channels + c) * 9;
      for (int64_t point = 0; point < kWinogradPoints; ++point) {
        double sum = 0;
        for (int64_t tap = 0; tap < 9; ++tap) {
          sum += kG[point / 6][tap / 3] * kG[point % 6][tap % 3] * static_cast<double>(taps[tap]);
        }
        out[static_cast<size_t>((point * channels + c) * n + j)] = static_cast<float>(sum);
      }
    }
  }
  return out;
}

}  // namespace planck
