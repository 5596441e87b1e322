#pragma once
// Pictures and windows over them, for the tests of convolutions and pools.
#include <cstdint>
#include <ostream>

#include "kernels/window.h"

namespace planck {

// Pictures [images, rows, columns, channels], with gaps between places as windows of larger buffers
// have them.
struct Picture {
  int64_t images = 1, channels = 1, gap = 0;
  WindowSteps y{}, x{};

  void set_steps() { x.step = place(), y.step = x.in * place(); }
  int64_t place() const { return channels + gap; }
  int64_t size() const { return images * y.in * x.in * place() - gap; }
  int64_t outputs() const { return images * y.out * x.out; }
  int64_t taps() const { return y.kernel * x.kernel; }
  int64_t image_step() const { return y.in * x.in * place(); }

  // The element that a tap of a window reads, -1 in the padding.
  int64_t at(int64_t output, int64_t tap) const {
    const int64_t image = output / (y.out * x.out);
    const int64_t row = output / x.out % y.out * y.stride - y.begin + tap / x.kernel * y.dilation;
    const int64_t column = output % x.out * x.stride - x.begin + tap % x.kernel * x.dilation;
    if (row < 0 || row >= y.in || column < 0 || column >= x.in) return -1;
    return image * image_step() + row * y.step + column * x.step;
  }
};

inline std::ostream& operator<<(std::ostream& out, const Picture& p) {
  const auto axis = [&](const WindowSteps& a) {
    out << " " << a.in << "->" << a.out << " k" << a.kernel << " s" << a.stride << " d"
        << a.dilation << " b" << a.begin;
  };
  out << p.images << " x " << p.channels << " gap " << p.gap;
  axis(p.y), axis(p.x);
  return out;
}

}  // namespace planck
