#include "kernels/matmul/pairs.h"

#include <algorithm>

#include "base/checked.h"

namespace planck {
namespace {

int64_t places_of(const MatmulWindows& w) {
  const int64_t strides = checked_mul(pairs_of_line(w) - 1, w.x.stride, "places of a line");
  return checked_add(strides, w.x.kernel, "places of a line");
}

// Which places of a line of pairs read the picture, where it is shifted.
struct Inside {
  Inside(const WindowSteps& x, int64_t shift, int64_t places)
      : shift(shift),
        low(std::clamp<int64_t>(-shift, 0, places)),
        high(std::clamp(x.in - shift, low, places)) {}
  bool holds(int64_t place) const { return place >= low && place < high; }
  const float* at(const WindowSteps& x, const float* line, int64_t place) const {
    return holds(place) ? line + (place + shift) * x.step : nullptr;
  }
  int64_t shift, low, high;
};

constexpr int64_t kPlanes = 3;  // colours

// Places that both lines have, as one run where they are in memory; or a single one.
void copy_places(const MatmulWindows& w, const float* a, const float* b, int64_t count, float* to) {
  if (w.channel_step == 1) return interleave_f32_avx512(a, b, count * w.channels, to);
  if (count > 1) return interleave_planes_f32_avx512(a, b, w.channel_step, count, to);
  for (int64_t c = 0; c < w.channels; ++c) {
    to[2 * c] = a == nullptr ? 0 : a[c * w.channel_step];
    to[2 * c + 1] = b == nullptr ? 0 : b[c * w.channel_step];
  }
}

// A line of the picture; its address unless channels come in parts.
struct Line {
  int64_t image, y;
  const float* first;
};

// The same of channels that come in parts.
void copy_parts(const MatmulWindows& w, const Line& line, const Inside& a, const Inside& b,
                int64_t place, int64_t count, float* to) {
  for (const WindowPart& part : w.parts) {
    const auto places = [&](const Inside& inside) -> PartPlaces {
      if (!inside.holds(place)) return {nullptr, count};
      const int64_t x = place + inside.shift;
      return {part.at(line.image, line.y, x), part.repeat - x % part.repeat};
    };
    interleave_part_f32_avx512(part, places(a), places(b), count, 2 * w.channels, to);
    to += 2 * part.channels;
  }
}

void copy_line(const MatmulWindows& w, const Line& line, float* to) {
  const int64_t places = places_of(w);
  const Inside a(w.x, -w.x.begin, places);
  const Inside b(w.x, outputs_apart(w) * w.x.stride - w.x.begin, places);
  const bool parts = !w.parts.empty();
  const bool planes = !parts && w.channels == kPlanes && w.x.step == 1;
  const bool runs = parts || planes || w.dense();
  for (int64_t place = 0, count = 0; place < places; place += count) {
    const bool run = runs && a.holds(place) && b.holds(place);
    count = run ? std::min(a.high, b.high) - place : 1;
    if (parts) {
      copy_parts(w, line, a, b, place, count, to);
    } else {
      copy_places(w, a.at(w.x, line.first, place), b.at(w.x, line.first, place), count, to);
    }
    to += 2 * count * w.channels;
  }
}

}  // namespace

WindowBand pair_band_of(const MatmulWindows& w, int64_t output_rows) {
  const int64_t floats =
      checked_mul(checked_mul(places_of(w), w.channels, "places of a line"), 2, "places of a line");
  const int64_t lines = (output_rows - 1) * w.y.stride + w.y.kernel;
  return {lines, round_up(floats, 16) + 16};
}

void copy_pair_band(const MatmulWindows& w, const WindowBand& band, const float* picture,
                    int64_t image, int64_t first, float* to) {
  const int64_t floats = 2 * places_of(w) * w.channels;
  for (int64_t i = 0; i < band.lines; ++i, to += band.pitch) {
    const int64_t y = first * w.y.stride - w.y.begin + i;
    if (y >= 0 && y < w.y.in) {
      copy_line(w, {image, y, picture + image * w.image_step + y * w.y.step}, to);
    } else {
      std::fill(to, to + floats, 0.0F);
    }
  }
}

}  // namespace planck
