#pragma once
// One family for every vector width: included after the vector header of an ISA file. A tile is a
// piece of one row of the output with all its channels.
#include "kernels/resample/resample.h"
#include "kernels/simd/row_sums.h"

namespace planck {
namespace {

// What the places of one row of the output read.
struct Line {
  const float* picture;
  const int64_t* rows;
  const float* weights;
};

PLANCK_INLINE F16 sum_of(const ResampleArgs& a, const Line& line, int64_t place, int64_t channel,
                         int64_t lanes) {
  const int64_t* columns = a.column_places + place * a.column_taps;
  const float* weights = a.column_weights + place * a.column_taps;
  F16 sum = zero16();
  for (int64_t ty = 0; ty < a.row_taps; ++ty) {
    const float* row = line.picture + line.rows[ty] * a.row_step + channel;
    for (int64_t tx = 0; tx < a.column_taps; ++tx) {
      const F16 x = load_lanes(row + columns[tx] * a.column_step, lanes);
      sum = fma(x, set1(line.weights[ty] * weights[tx]), sum);
    }
  }
  return sum;
}

void weigh(const ResampleArgs& a, const Line& line, int64_t place, float* out) {
  int64_t channel = 0;
  // Whole vectors with a constant number of lanes, so that loads need no mask.
  for (; channel + 16 <= a.channels; channel += 16) {
    store_lanes(out + channel, sum_of(a, line, place, channel, 16), 16);
  }
  const int64_t left = a.channels - channel;
  if (left > 0) store_lanes(out + channel, sum_of(a, line, place, channel, left), left);
}

void copy(const ResampleArgs& a, const Line& line, int64_t place, float* out) {
  const float* x =
      line.picture + line.rows[0] * a.row_step + a.column_places[place] * a.column_step;
  int64_t channel = 0;
  for (; channel + 16 <= a.channels; channel += 16) {
    store_lanes(out + channel, load_lanes(x + channel, 16), 16);
  }
  const int64_t left = a.channels - channel;
  if (left > 0) store_lanes(out + channel, load_lanes(x + channel, left), left);
}

void run_tile(const ResampleArgs& a, int64_t tile) {
  const int64_t pieces = (a.columns + a.places - 1) / a.places;
  const int64_t index = tile / pieces, first = tile % pieces * a.places;
  const int64_t last = first + a.places < a.columns ? first + a.places : a.columns;
  const int64_t y = index % a.rows;
  const Line line{a.x + index / a.rows * a.image_step, a.row_places + y * a.row_taps,
                  a.row_weights + y * a.row_taps};
  const bool copies = a.row_taps == 1 && a.column_taps == 1;
  float* out = a.out + (index * a.columns + first) * a.out_stride;
  for (int64_t place = first; place < last; ++place, out += a.out_stride) {
    if (copies) {
      copy(a, line, place, out);
    } else {
      weigh(a, line, place, out);
    }
  }
}

}  // namespace
}  // namespace planck
