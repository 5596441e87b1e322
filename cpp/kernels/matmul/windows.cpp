#include "kernels/matmul/windows.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cstring>

namespace planck {
namespace {

// Short runs are copied faster than memcpy is called; the last four overlap those before.
void copy(const float* from, int64_t count, float* to) {
  constexpr int64_t kVector = 4, kShort = 128;
  if (count > kShort) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  } else if (count >= kVector) {
    for (int64_t i = 0; i < count - kVector; i += kVector) {
      _mm_storeu_ps(to + i, _mm_loadu_ps(from + i));
    }
    _mm_storeu_ps(to + count - kVector, _mm_loadu_ps(from + count - kVector));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

// Channels from one on, `count` of them, of the place.
void copy_channels(const MatmulWindows& w, const float* place, int64_t channel, int64_t count,
                   float* to) {
  if (w.channel_step == 1) return copy(place + channel, count, to);
  for (int64_t c = 0; c < count; ++c) to[c] = place[(channel + c) * w.channel_step];
}

// Part [k, k + count) of one row of taps: `line` is the row of the picture, null where it lies in
// the padding; x is the place of the first tap.
struct Line {
  const float* line;
  int64_t x;
};

// Taps side by side in memory are one run; what reaches over an edge is 0.
void gather_run(const MatmulWindows& w, Line line, int64_t k, int64_t count, float* to) {
  const int64_t low = std::clamp<int64_t>(-line.x * w.channels - k, 0, count);
  const int64_t high = std::clamp<int64_t>((w.x.in - line.x) * w.channels - k, low, count);
  std::fill(to, to + low, 0.0F);
  copy(line.line + line.x * w.channels + k + low, high - low, to + low);
  std::fill(to + high, to + count, 0.0F);
}

void gather_taps(const MatmulWindows& w, Line line, int64_t k, int64_t count, float* to) {
  while (count > 0) {
    const int64_t tap = k / w.channels, channel = k % w.channels;
    const int64_t part = std::min(count, w.channels - channel);
    const int64_t x = line.x + tap * w.x.dilation;
    if (x < 0 || x >= w.x.in) {
      std::fill(to, to + part, 0.0F);
    } else {
      copy_channels(w, line.line + x * w.x.step, channel, part, to);
    }
    k += part, count -= part, to += part;
  }
}

// A row of windows over parts, a run of channels at a time.
void gather_parts(const MatmulWindows& w, int64_t image, int64_t y, int64_t x, int64_t k,
                  int64_t count, float* to) {
  const int64_t end = k + count;
  for (int64_t tap = k / w.channels; tap * w.channels < end; ++tap) {
    const int64_t at_y = y + tap / w.x.kernel * w.y.dilation;
    const int64_t at_x = x + tap % w.x.kernel * w.x.dilation;
    const bool inside = at_y >= 0 && at_y < w.y.in && at_x >= 0 && at_x < w.x.in;
    int64_t from = tap * w.channels;
    for (const WindowPart& part : w.parts) {
      const int64_t low = std::max(from, k), high = std::min(from + part.channels, end);
      if (low < high && inside) {
        copy(part.at(image, at_y, at_x) + (low - from), high - low, to + (low - k));
      } else if (low < high) {
        std::fill(to + (low - k), to + (high - k), 0.0F);
      }
      from += part.channels;
    }
  }
}

void gather_row(const MatmulWindows& w, const float* image, int64_t y, int64_t x, int64_t k,
                int64_t count, float* to) {
  const bool runs = w.x.dilation == 1 && w.dense();
  const int64_t width = w.x.kernel * w.channels;
  while (count > 0) {
    const int64_t tap = k / width, inner = k % width;
    const int64_t part = std::min(count, width - inner);
    const int64_t at = y + tap * w.y.dilation;
    if (at < 0 || at >= w.y.in) {
      std::fill(to, to + part, 0.0F);
    } else {
      const Line line{image + at * w.y.step, x};
      runs ? gather_run(w, line, inner, part, to) : gather_taps(w, line, inner, part, to);
    }
    k += part, count -= part, to += part;
  }
}

}  // namespace

void gather_windows(const MatmulWindows& w, const float* picture, int64_t row, int64_t rows,
                    int64_t k, int64_t count, float* to, int64_t pitch) {
  const int64_t plane = w.y.out * w.x.out;
  int64_t image = row / plane, y = row % plane / w.x.out, x = row % w.x.out;
  for (int64_t i = 0; i < rows; ++i, to += pitch) {
    const int64_t top = y * w.y.stride - w.y.begin, left = x * w.x.stride - w.x.begin;
    if (w.parts.empty()) {
      gather_row(w, picture + image * w.image_step, top, left, k, count, to);
    } else {
      gather_parts(w, image, top, left, k, count, to);
    }
    if (++x < w.x.out) continue;
    x = 0;
    if (++y < w.y.out) continue;
    y = 0;
    ++image;
  }
}

void copy_taps(const MatmulWindows& w, const float* line, int64_t x, float* to) {
  gather_run(w, {line, x}, 0, w.x.kernel * w.channels, to);
}

WindowBand band_of(const MatmulWindows& w, int64_t output_rows) {
  const int64_t places = (w.x.out - 1) * w.x.stride + w.x.kernel;
  const int64_t floats = (places * w.channels + 15) / 16 * 16;
  return {(output_rows - 1) * w.y.stride + (w.y.kernel - 1) * w.y.dilation + 1, floats + 16};
}

namespace {

// Places [0, count) of line y of the picture, channels of all parts side by side.
void copy_parts(const MatmulWindows& w, int64_t image, int64_t y, int64_t count, float* to) {
  for (const WindowPart& part : w.parts) {
    const float* from = part.at(image, y, 0);
    float* at = to;
    for (int64_t x = 0; x < count; from += part.x_step) {
      const int64_t until = std::min(x + part.repeat, count);
      for (; x < until; ++x, at += w.channels) copy(from, part.channels, at);
    }
    to += part.channels;
  }
}

}  // namespace

void copy_band(const MatmulWindows& w, const WindowBand& band, const float* picture, int64_t image,
               int64_t first, float* to) {
  const int64_t places = (w.x.out - 1) * w.x.stride + w.x.kernel;
  const int64_t low = std::min(w.x.begin, places);
  const int64_t high = std::clamp(w.x.in + w.x.begin, low, places);
  for (int64_t i = 0; i < band.lines; ++i, to += band.pitch) {
    const int64_t y = first * w.y.stride - w.y.begin + i;
    const bool inside = y >= 0 && y < w.y.in;
    std::fill(to, to + (inside ? low : places) * w.channels, 0.0F);
    if (!inside) continue;
    if (!w.parts.empty()) {
      copy_parts(w, image, y, high - low, to + low * w.channels);
      std::fill(to + high * w.channels, to + places * w.channels, 0.0F);
      continue;
    }
    const float* line = picture + image * w.image_step + y * w.y.step;
    if (w.dense()) {
      copy(line, (high - low) * w.channels, to + low * w.channels);
    } else {
      for (int64_t x = low; x < high; ++x) {
        copy_channels(w, line + (x - low) * w.x.step, 0, w.channels, to + x * w.channels);
      }
    }
    std::fill(to + high * w.channels, to + places * w.channels, 0.0F);
  }
}

}  // namespace planck
