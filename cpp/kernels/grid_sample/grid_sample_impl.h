#pragma once
// One family for every vector width: included after the vector header of an ISA file.
#include "kernels/grid_sample/taps.h"
#include "kernels/simd/row_sums.h"

namespace planck {
namespace {

struct SampledAxis {
  double extent;
  bool align;
  GridPadding padding;

  // Where reflection turns round.
  double low() const { return align ? 0 : -0.5; }
  double high() const { return extent - (align ? 1 : 0.5); }
};

double reflected(const SampledAxis& a, double x) {
  const double range = a.high() - a.low();
  if (range <= 0) return 0;
  const double beyond = x < a.low() ? a.low() - x : x - a.high();
  if (beyond <= 0) return x;
  const double turns = __builtin_floor(beyond / range), rest = beyond - turns * range;
  const bool even = turns - 2 * __builtin_floor(turns / 2) == 0;
  return (x < a.low()) == even ? a.low() + rest : a.high() - rest;
}

double inside(const SampledAxis& a, double x) {
  if (a.padding == GridPadding::border) return x < 0 ? 0 : x < a.extent - 1 ? x : a.extent - 1;
  return a.padding == GridPadding::reflection ? reflected(a, x) : x;
}

// The element that a whole number stands for; -1 reads zero.
int64_t element(const SampledAxis& a, double whole) {
  const double at = __builtin_trunc(inside(a, whole));
  return at >= 0 && at < a.extent ? static_cast<int64_t>(at) : -1;
}

PLANCK_INLINE double place_of(const SampledAxis& a, float normalised) {
  const double from_low = static_cast<double>(normalised) + 1;
  return a.align ? from_low / 2 * (a.extent - 1) : (from_low * a.extent - 1) / 2;
}
// What is not finite lies in front of the first element, as every comparison with it says.
PLANCK_INLINE double finite_place(double x) { return __builtin_isfinite(x) ? x : -2; }

struct AxisTaps {
  int64_t first, second;  // -1 reads zero
  double part;            // the weight of the second
};

__attribute__((noinline)) AxisTaps taps_outside(const SampledAxis& a, double x) {
  x = finite_place(x);
  if (x < a.low() || x > a.high()) x = inside(a, x);
  const double first = __builtin_floor(x);
  return {element(a, first), element(a, first + 1), x - first};
}
PLANCK_INLINE AxisTaps taps_at(const SampledAxis& a, float normalised) {
  const double x = place_of(a, normalised);
  if (!(x >= 0 && x < a.extent - 1)) return taps_outside(a, x);
  const auto first = static_cast<int64_t>(x);
  return {first, first + 1, x - static_cast<double>(first)};
}

__attribute__((noinline)) int64_t nearest_outside(const SampledAxis& a, double x) {
  const double whole = __builtin_nearbyint(finite_place(x));
  return element(a, __builtin_nearbyint(inside(a, whole)));
}
PLANCK_INLINE int64_t nearest_at(const SampledAxis& a, float normalised) {
  const double x = place_of(a, normalised);
  if (!(x >= 0 && x <= a.extent - 1)) return nearest_outside(a, x);
  return static_cast<int64_t>(__builtin_nearbyint(x));
}

// The elements around a place as offsets in a picture, in the order of the sum: the first column
// of both rows, then the second one. Of a nearest one, only the first.
struct Corners {
  bool all;       // none reads zero
  int64_t at[4];  // or kNowhere: it reads zero
  float weight[4];
};

const float* image_of(const GridSampleArgs& a, int64_t image) {
  return a.x + image / a.run * a.run_step + image % a.run * a.image_step;
}

struct Grid {
  SampledAxis y, x;
  const float* at;  // of one image
};

Grid grid_of(const GridSampleArgs& a, int64_t image) {
  const auto axis = [&](int64_t extent) {
    return SampledAxis{static_cast<double>(extent), a.align_corners, a.padding};
  };
  return {axis(a.rows), axis(a.columns), a.grid + image * a.grid_image};
}

PLANCK_INLINE Corners nearest_of(const GridSampleArgs& a, const Grid& grid, const float* at) {
  const int64_t x = nearest_at(grid.x, at[0]), y = nearest_at(grid.y, at[a.axis_step]);
  const bool inside = x >= 0 && y >= 0;
  return {inside, {inside ? y * a.row_step + x * a.column_step : kNowhere}, {1}};
}

PLANCK_INLINE Corners corners_of(const GridSampleArgs& a, const Grid& grid, const float* at) {
  const AxisTaps x = taps_at(grid.x, at[0]), y = taps_at(grid.y, at[a.axis_step]);
  const auto offset = [&](int64_t row, int64_t column) {
    return row < 0 || column < 0 ? kNowhere : row * a.row_step + column * a.column_step;
  };
  const auto right = static_cast<float>(x.part), low = static_cast<float>(y.part);
  const auto left = static_cast<float>(1 - x.part), up = static_cast<float>(1 - y.part);
  return {(x.first | x.second | y.first | y.second) >= 0,
          {offset(y.first, x.first), offset(y.second, x.first), offset(y.first, x.second),
           offset(y.second, x.second)},
          {up * left, low * left, up * right, low * right}};
}

// Calls visit(place, coordinates) for places [first, last) of an image.
template <class Visit>
PLANCK_INLINE void for_places(const GridSampleArgs& a, const Grid& grid, int64_t first,
                              int64_t last, Visit visit) {
  int64_t row = first / a.out_columns, column = first % a.out_columns;
  for (int64_t place = first; place < last; ++place) {
    visit(place, grid.at + row * a.grid_row + column * a.grid_column);
    if (++column == a.out_columns) column = 0, ++row;
  }
}

// --- channels are neighbours ------------------------------------------------------------------

PLANCK_INLINE F16 mixed(const F16 (&x)[4], const F16 (&weight)[4]) {
  return fma(x[1], weight[1], x[0] * weight[0]) + fma(x[3], weight[3], x[2] * weight[2]);
}

// kAll: every corner lies inside.
template <bool kAll>
PLANCK_INLINE void weigh(const float* picture, const Corners& c, int64_t channels, float* out) {
  const F16 weight[4] = {set1(c.weight[0]), set1(c.weight[1]), set1(c.weight[2]),
                         set1(c.weight[3])};
  const auto lanes_at = [&](int64_t channel, int64_t lanes) __attribute__((always_inline)) {
    F16 x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const bool reads = kAll || c.at[i] != kNowhere;
      x[i] = reads ? load_lanes(picture + c.at[i] + channel, lanes) : zero16();
    }
    store_lanes(out + channel, mixed(x, weight), lanes);
  };
  int64_t channel = 0;
  for (; channel + 16 <= channels; channel += 16) lanes_at(channel, 16);
  if (channel < channels) lanes_at(channel, channels - channel);
}

// The picture at one element; null: zeros.
PLANCK_INLINE void copy(const float* x, int64_t channels, float* out) {
  const auto lanes_at = [&](int64_t channel, int64_t lanes) __attribute__((always_inline)) {
    store_lanes(out + channel, x != nullptr ? load_lanes(x + channel, lanes) : zero16(), lanes);
  };
  int64_t channel = 0;
  for (; channel + 16 <= channels; channel += 16) lanes_at(channel, 16);
  if (channel < channels) lanes_at(channel, channels - channel);
}

void run_channels(const GridSampleArgs& a, int64_t image, int64_t first, int64_t last) {
  const float* picture = image_of(a, image);
  float* out = a.out + image * a.out_image;
  const Grid grid = grid_of(a, image);
  if (a.nearest) {
    for_places(a, grid, first, last, [&](int64_t place, const float* at) {
      const int64_t from = nearest_of(a, grid, at).at[0];
      copy(from == kNowhere ? nullptr : picture + from, a.channels, out + place * a.out_place);
    });
    return;
  }
  for_places(a, grid, first, last, [&](int64_t place, const float* at) {
    const Corners c = corners_of(a, grid, at);
    if (c.all) {
      weigh<true>(picture, c, a.channels, out + place * a.out_place);
    } else {
      weigh<false>(picture, c, a.channels, out + place * a.out_place);
    }
  });
}

// --- places are neighbours --------------------------------------------------------------------

// Whether the corners are two neighbours of two neighbouring rows.
PLANCK_INLINE bool is_square(const GridSampleArgs& a, const Corners& c) {
  return c.all && c.at[1] - c.at[0] == a.row_step && c.at[2] - c.at[0] == a.column_step &&
         c.at[3] - c.at[2] == a.row_step;
}

PLANCK_INLINE bool is_empty(const Corners& c) {
  return c.at[0] == kNowhere && c.at[1] == kNowhere && c.at[2] == kNowhere && c.at[3] == kNowhere;
}

void fill_nearest(const GridSampleArgs& a, int64_t image, int64_t first, int64_t last,
                  PlaneTaps& taps) {
  const Grid grid = grid_of(a, image);
  for_places(a, grid, first, last, [&](int64_t place, const float* at) {
    taps.first[place - first] = nearest_of(a, grid, at).at[0];
  });
}

void fill(const GridSampleArgs& a, int64_t image, int64_t first, int64_t last, PlaneTaps& taps) {
  const Grid grid = grid_of(a, image);
  int32_t outside = 0, empty = 0;
  for_places(a, grid, first, last, [&](int64_t place, const float* at) {
    const int64_t i = place - first;
    const Corners c = corners_of(a, grid, at);
    taps.up[i][0] = c.weight[0], taps.low[i][0] = c.weight[1];
    taps.up[i][1] = c.weight[2], taps.low[i][1] = c.weight[3];
    const bool square = is_square(a, c);
    taps.first[i] = square ? c.at[0] : 0;
    if (square) return;
    if (is_empty(c)) {
      taps.place[kGridPlaces - ++empty] = static_cast<int32_t>(i);
      return;
    }
    for (int64_t k = 0; k < 4; ++k) taps.at[outside][k] = c.at[k];
    taps.place[outside++] = static_cast<int32_t>(i);
  });
  taps.outside = outside, taps.empty = empty;
}

PLANCK_INLINE float mixed(const float (&x)[4], const PlaneTaps& taps, int64_t i) {
  return __builtin_fmaf(x[1], taps.low[i][0], x[0] * taps.up[i][0]) +
         __builtin_fmaf(x[3], taps.low[i][1], x[2] * taps.up[i][1]);
}

// Eight places, of which each pair of lanes has the sums of one.
PLANCK_INLINE F16 weighed_pairs(const PlaneTaps& taps, const float* plane, int64_t row_step,
                                int64_t i) {
  const F16 up = load_pairs(plane, taps.first + i) * load(taps.up[i]);
  return fma(load_pairs(plane + row_step, taps.first + i), load(taps.low[i]), up);
}

void weigh_squares(const GridSampleArgs& a, const PlaneTaps& taps, const float* plane,
                   int64_t count, float* out) {
  int64_t i = 0;
  for (; a.column_step == 1 && i + 16 <= count; i += 16) {
    store(out + i, add_pairs(weighed_pairs(taps, plane, a.row_step, i),
                             weighed_pairs(taps, plane, a.row_step, i + 8)));
  }
  for (; i < count; ++i) {
    const float *x = plane + taps.first[i], *low = x + a.row_step;
    out[i] = mixed({x[0], low[0], x[a.column_step], low[a.column_step]}, taps, i);
  }
}

void weigh_plane(const GridSampleArgs& a, const PlaneTaps& taps, const float* plane, int64_t count,
                 float* out) {
  if (taps.outside + taps.empty < count) weigh_squares(a, taps, plane, count, out);
  for (int64_t k = kGridPlaces - taps.empty; k < kGridPlaces; ++k) out[taps.place[k]] = 0;
  const auto value = [&](int64_t at) { return at == kNowhere ? 0.0F : plane[at]; };
  for (int32_t k = 0; k < taps.outside; ++k) {
    const int64_t* at = taps.at[k];
    const int32_t i = taps.place[k];
    out[i] = mixed({value(at[0]), value(at[1]), value(at[2]), value(at[3])}, taps, i);
  }
}

void copy_plane(const PlaneTaps& taps, const float* plane, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = taps.first[i] == kNowhere ? 0.0F : plane[taps.first[i]];
  }
}

void run_planes(const GridSampleArgs& a, int64_t image, int64_t first, int64_t last, int64_t group,
                PlaneTaps& taps) {
  if (a.nearest) {
    fill_nearest(a, image, first, last, taps);
  } else {
    fill(a, image, first, last, taps);
  }
  const int64_t begin = group * a.group;
  const int64_t end = begin + a.group < a.channels ? begin + a.group : a.channels;
  for (int64_t channel = begin; channel < end; ++channel) {
    const float* plane = image_of(a, image) + channel * a.channel_step;
    float* out = a.out + image * a.out_image + channel * a.out_channel + first;
    if (a.nearest) {
      copy_plane(taps, plane, last - first, out);
    } else {
      weigh_plane(a, taps, plane, last - first, out);
    }
  }
}

void run_tile(const GridSampleArgs& a, int64_t tile, const Worker& worker) {
  const int64_t groups = (a.channels + a.group - 1) / a.group;
  const int64_t count = a.out_rows * a.out_columns, pieces = (count + a.places - 1) / a.places;
  const int64_t block = tile / groups, image = block / pieces;
  const int64_t first = block % pieces * a.places;
  const int64_t last = first + a.places < count ? first + a.places : count;
  if (!a.planes) return run_channels(a, image, first, last);
  run_planes(a, image, first, last, tile % groups, *reinterpret_cast<PlaneTaps*>(worker.scratch));
}

}  // namespace
}  // namespace planck
