#include "kernels/qmatmul/byte_windows.h"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>

namespace planck {
namespace {

// Short runs are copied faster than memcpy is called; the last sixteen overlap those before.
void copy(const uint8_t* from, int64_t count, uint8_t* to) {
  constexpr int64_t kVector = 16, kShort = 128;
  const auto move = [&](int64_t at) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
  };
  if (count > kShort) {
    std::memcpy(to, from, static_cast<size_t>(count));
  } else if (count >= kVector) {
    for (int64_t i = 0; i < count - kVector; i += kVector) move(i);
    move(count - kVector);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
  }
}
void fill(uint8_t* to, int64_t count, uint8_t value) {
  if (count > 0) std::memset(to, value, static_cast<size_t>(count));
}

// The taps of one row of the picture, the first at place x.
void gather_line(const MatmulWindows& w, const uint8_t* line, uint8_t zero, int64_t x,
                 uint8_t* to) {
  if (w.x.dilation == 1 && w.x.step == w.channels) {  // neighbours in memory are one run
    const int64_t low = std::clamp<int64_t>(-x, 0, w.x.kernel);
    const int64_t high = std::clamp<int64_t>(w.x.in - x, low, w.x.kernel);
    fill(to, low * w.channels, zero);
    if (high > low)
      copy(line + (x + low) * w.channels, (high - low) * w.channels, to + low * w.channels);
    fill(to + high * w.channels, (w.x.kernel - high) * w.channels, zero);
    return;
  }
  for (int64_t tap = 0; tap < w.x.kernel; ++tap, x += w.x.dilation, to += w.channels) {
    const bool inside = x >= 0 && x < w.x.in;
    inside ? copy(line + x * w.x.step, w.channels, to) : fill(to, w.channels, zero);
  }
}

}  // namespace

void gather_windows(const MatmulWindows& w, const uint8_t* picture, uint8_t zero, int64_t row,
                    int64_t rows, uint8_t* to, int64_t pitch) {
  const int64_t plane = w.y.out * w.x.out, width = w.x.kernel * w.channels;
  for (int64_t i = row; i < row + rows; ++i, to += pitch) {
    const uint8_t* image = picture + i / plane * w.image_step;
    const int64_t top = i % plane / w.x.out * w.y.stride - w.y.begin;
    const int64_t left = i % w.x.out * w.x.stride - w.x.begin;
    for (int64_t tap = 0; tap < w.y.kernel; ++tap) {
      const int64_t y = top + tap * w.y.dilation;
      if (y < 0 || y >= w.y.in) {
        fill(to + tap * width, width, zero);
      } else {
        gather_line(w, image + y * w.y.step, zero, left, to + tap * width);
      }
    }
  }
}

ByteBand byte_band(const MatmulWindows& w, int64_t output_rows) {
  constexpr int64_t kLine = 64;
  const int64_t places = (w.x.out - 1) * w.x.stride + w.x.kernel;
  const int64_t bytes = (places * w.channels + kLine - 1) / kLine * kLine;
  // One cache line more, so that lines do not share few cache sets.
  return {(output_rows - 1) * w.y.stride + (w.y.kernel - 1) * w.y.dilation + 1, bytes + kLine};
}

void copy_band(const MatmulWindows& w, const ByteBand& band, const uint8_t* image, uint8_t zero,
               int64_t first, uint8_t* to) {
  const int64_t places = (w.x.out - 1) * w.x.stride + w.x.kernel;
  const int64_t low = std::min(w.x.begin, places);
  const int64_t high = std::clamp(w.x.in + w.x.begin, low, places);
  for (int64_t i = 0; i < band.lines; ++i, to += band.pitch) {
    const int64_t y = first * w.y.stride - w.y.begin + i;
    if (y < 0 || y >= w.y.in) {
      fill(to, places * w.channels, zero);
      continue;
    }
    const uint8_t* line = image + y * w.y.step;
    fill(to, low * w.channels, zero);
    if (w.x.step == w.channels) {
      copy(line, (high - low) * w.channels, to + low * w.channels);
    } else {
      for (int64_t x = low; x < high; ++x) {
        copy(line + (x - low) * w.x.step, w.channels, to + x * w.channels);
      }
    }
    fill(to + high * w.channels, (places - high) * w.channels, zero);
  }
}

bool never_padded(const MatmulWindows& w) {
  const auto inside = [](const WindowSteps& a) {
    return a.begin == 0 && (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation < a.in;
  };
  return inside(w.y) && inside(w.x);
}

}  // namespace planck
