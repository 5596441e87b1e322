#pragma once
// What the tests of the row families share: running a row, distances in ulps, equality of bits.
#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "base/device.h"
#include "kernels/job.h"

#define PLANCK_SKIP_WITHOUT(isa) \
  if (!this_device().has(isa)) GTEST_SKIP() << "this machine has no " << (isa)

namespace planck {

// What costs some processors 150 cycles: a subnormal operand or result, or a result that rounds to
// 0 though it is not 0. Counted since it was made, in this thread.
class Underflows {
 public:
  Underflows() { _mm_setcsr(_mm_getcsr() & ~kFlags); }
  bool any() const { return (_mm_getcsr() & kFlags) != 0; }

 private:
  static constexpr unsigned kFlags = 0x12;  // underflow, denormal operand
};

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();

// Tiles from the last to the first: no tile may lean on an earlier one.
template <class Row, class Args>
void run_all_tiles(const Row& row, const Args& args) {
  std::vector<std::byte> scratch(static_cast<size_t>(row.scratch_bytes) + 64);
  Worker worker;
  void* aligned = scratch.data();
  size_t space = scratch.size();
  worker.scratch = static_cast<std::byte*>(std::align(64, row.scratch_bytes, aligned, space));
  for (int64_t tile = row.tiles(args); tile-- > 0;) row.run(&args, tile, worker);
}

// Distance in units of the last place of the exact value; NaN and infinities must stand where the
// exact value, rounded to fp32, has them.
inline double ulps(float got, double exact) {
  const float rounded = static_cast<float>(exact);
  if (std::isnan(got) || std::isnan(exact)) return std::isnan(got) == std::isnan(exact) ? 0 : 1e9;
  if (std::isinf(got) || std::isinf(rounded)) return got == rounded ? 0 : 1e9;
  const float size = std::fabs(rounded);
  const float last = size == std::numeric_limits<float>::max()
                         ? size - std::nextafter(size, 0.0f)
                         : std::nextafter(size, kInfinity) - size;
  return std::fabs(static_cast<double>(got) - exact) / static_cast<double>(last);
}

// Any NaN equals any NaN: its payload is not promised.
inline bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

template <class A, class B>
void expect_same_bits(const A& a, const B& b, int64_t count) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (!same_bits(a[i], b[i]) && wrong++ < 5) ADD_FAILURE() << i << ": " << a[i] << " " << b[i];
  }
  EXPECT_EQ(wrong, 0);
}

}  // namespace planck
