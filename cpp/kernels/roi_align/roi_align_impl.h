#pragma once
// One family for every vector width: included after the vector header of an ISA file. A tile is a
// run of cells of one region with all their channels.
#include "kernels/roi_align/side.h"
#include "kernels/simd/row_sums.h"

namespace planck {
namespace {

// The samples of a cell along one axis as elements and weights.
struct RoiTaps {
  RoiTap* taps;
  int64_t count, samples;
  bool outside;  // a sample lies there
};

// A weight is added to an element that one of the last two samples read already: where samples lie
// densely, most do. Not for the largest, which is one of weighted elements.
void add_tap(RoiTaps& list, int64_t at, double weight, bool joins) {
  const auto w = static_cast<float>(weight);
  for (int64_t i = list.count - 1; joins && i >= 0 && i >= list.count - 2; --i) {
    if (list.taps[i].at == at) {
      list.taps[i].weight += w;
      return;
    }
  }
  list.taps[list.count++] = {at, w};
}

void add_sample(RoiTaps& list, double x, int64_t length, int64_t step, bool joins) {
  const double last = static_cast<double>(length - 1);
  x = x < 0 ? 0 : x > last ? last : x;
  const auto first = static_cast<int64_t>(x);
  const double part = x - static_cast<double>(first);
  add_tap(list, first * step, 1 - part, joins);
  add_tap(list, (first + 1 < length ? first + 1 : first) * step, part, joins);
}

double at_least(double x, double low) { return x > low ? x : low; }
double at_most(double x, double high) { return x < high ? x : high; }

// Cell `place` of `cells`. Of a region that follows its elements only the samples near the picture
// are looked at: it may have many more.
RoiTaps taps_of(const RoiAlignArgs& a, const Side& side, int64_t cells, int64_t place,
                int64_t length, int64_t step, RoiTap* to) {
  const double cell = side.extent / static_cast<double>(cells);
  RoiTaps list{to, 0, a.samples, false};
  int64_t first = 0, end = a.samples;
  if (a.samples == 0) {
    const double all = at_least(__builtin_ceil(cell), 0);
    list.samples = static_cast<int64_t>(all);
    const auto sample = [&](double x) {
      return ((x - side.start) / cell - static_cast<double>(place)) * all - 0.5;
    };
    if (list.samples == 0) return list;
    first = static_cast<int64_t>(at_most(at_least(__builtin_floor(sample(-1)) - 1, 0), all));
    const double behind = __builtin_ceil(sample(static_cast<double>(length))) + 2;
    end = static_cast<int64_t>(at_most(at_least(behind, 0), all));
  }
  const int64_t most = most_taps(a, length) / 2;
  if (end - first > most) end = first + most;
  list.outside = first > 0 || end < list.samples;
  for (int64_t s = first; s < end; ++s) {
    const double within = (static_cast<double>(s) + 0.5) / static_cast<double>(list.samples);
    const double x = side.start + (static_cast<double>(place) + within) * cell;
    if (x >= -1 && x <= static_cast<double>(length)) {
      add_sample(list, x, length, step, !a.largest);
    } else {
      list.outside = true;
    }
  }
  return list;
}

// kVectors times 16 channels; the last vector has `lanes`.
template <int kVectors>
PLANCK_INLINE void mean(const float* x, const RoiTaps& rows, const RoiTaps& columns, float scale,
                        int64_t lanes, float* out) {
  F16 sum[kVectors];
#pragma GCC unroll 4
  for (int64_t v = 0; v < kVectors; ++v) sum[v] = zero16();
  for (int64_t i = 0; i < rows.count; ++i) {
    F16 line[kVectors];
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) line[v] = zero16();
    for (int64_t j = 0; j < columns.count; ++j) {
      const float* at = x + rows.taps[i].at + columns.taps[j].at;
      const F16 weight = set1(columns.taps[j].weight);
#pragma GCC unroll 4
      for (int64_t v = 0; v < kVectors; ++v) {
        line[v] = fma(load_lanes(at + 16 * v, lanes), weight, line[v]);
      }
    }
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) sum[v] = fma(line[v], set1(rows.taps[i].weight), sum[v]);
  }
#pragma GCC unroll 4
  for (int64_t v = 0; v < kVectors; ++v) store_lanes(out + 16 * v, sum[v] * set1(scale), lanes);
}

// NaN is never the largest.
PLANCK_INLINE void largest(const float* x, const RoiTaps& rows, const RoiTaps& columns,
                           int64_t lanes, float* out) {
  F16 top = rows.outside || columns.outside ? zero16() : set1(-kInf);
  for (int64_t i = 0; i < rows.count; ++i) {
    for (int64_t j = 0; j < columns.count; ++j) {
      const float weight = rows.taps[i].weight * columns.taps[j].weight;
      const F16 at = load_lanes(x + rows.taps[i].at + columns.taps[j].at, lanes);
      top = max2(at * set1(weight), top);
    }
  }
  store_lanes(out, top, lanes);
}

void mean_cell(const float* x, const RoiTaps& rows, const RoiTaps& columns, int64_t channels,
               float* out) {
  const int64_t samples = rows.samples * columns.samples;
  const float scale = samples > 0 ? 1.0F / static_cast<float>(samples) : 0.0F;
  int64_t c = 0;
  for (; c + 64 <= channels; c += 64) mean<4>(x + c, rows, columns, scale, 16, out + c);
  for (; c + 16 <= channels; c += 16) mean<1>(x + c, rows, columns, scale, 16, out + c);
  if (c < channels) mean<1>(x + c, rows, columns, scale, channels - c, out + c);
}

void largest_cell(const float* x, const RoiTaps& rows, const RoiTaps& columns, int64_t channels,
                  float* out) {
  int64_t c = 0;
  if (rows.samples == 0 || columns.samples == 0) {
    for (; c < channels; ++c) out[c] = 0;
    return;
  }
  for (; c + 16 <= channels; c += 16) largest(x + c, rows, columns, 16, out + c);
  if (c < channels) largest(x + c, rows, columns, channels - c, out + c);
}

// [count cells][channels] to planes.
void turn(const RoiAlignArgs& a, const float* from, int64_t count, float* out) {
  int64_t cell = 0;
  for (; cell + 4 <= count; cell += 4, from += 4 * a.channels) {
    int64_t c = 0;
    for (; c + 16 <= a.channels; c += 16) {
      F16 x[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) x[i] = load(from + i * a.channels + c);
      transpose_quads(x);
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {
        float quads[16];
        store(quads, x[i]);
        for (int64_t q = 0; q < 4; ++q) {
          float* to = out + (c + 4 * q + i) * a.out_channel + cell;
          __builtin_memcpy(to, quads + 4 * q, 4 * sizeof(float));
        }
      }
    }
    for (; c < a.channels; ++c) {
      for (int64_t i = 0; i < 4; ++i) out[c * a.out_channel + cell + i] = from[i * a.channels + c];
    }
  }
  for (; cell < count; ++cell, from += a.channels) {
    for (int64_t c = 0; c < a.channels; ++c) out[c * a.out_channel + cell] = from[c];
  }
}

void run_tile(const RoiAlignArgs& a, int64_t tile, const Worker& worker) {
  const int64_t all = a.out_rows * a.out_columns, pieces = (all + a.cells - 1) / a.cells;
  const int64_t region = tile / pieces, first = tile % pieces * a.cells;
  const int64_t last = first + a.cells < all ? first + a.cells : all;
  const float *at = a.regions + 4 * region, *x = a.x + a.pictures[region] * a.image_step;
  const Side columns = side_of(a, at[0], at[2]), rows = side_of(a, at[1], at[3]);
  auto* row_taps = reinterpret_cast<RoiTap*>(worker.scratch);
  RoiTap* column_taps = row_taps + most_taps(a, a.rows);
  auto* cells = reinterpret_cast<float*>(column_taps + most_taps(a, a.columns));
  float* out = a.out + region * a.out_region;
  RoiTaps ys{};
  for (int64_t cell = first; cell < last; ++cell) {
    const int64_t row = cell / a.out_columns, column = cell % a.out_columns;
    if (cell == first || column == 0) {
      ys = taps_of(a, rows, a.out_rows, row, a.rows, a.row_step, row_taps);
    }
    const RoiTaps xs =
        taps_of(a, columns, a.out_columns, column, a.columns, a.column_step, column_taps);
    const int64_t turned = (cell - first) % kRoiCells;
    float* to = a.planes ? cells + turned * a.channels : out + cell * a.out_cell;
    if (a.largest) {
      largest_cell(x, ys, xs, a.channels, to);
    } else {
      mean_cell(x, ys, xs, a.channels, to);
    }
    if (a.planes && (turned == kRoiCells - 1 || cell == last - 1)) {
      turn(a, cells, turned + 1, out + cell - turned);
    }
  }
}

}  // namespace
}  // namespace planck
