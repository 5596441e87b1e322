#pragma once
// The floating-point state of a thread while it works for us, whatever the host program has set.
#include <xmmintrin.h>

#include <cstdint>

namespace planck {

// What becomes of subnormal numbers, in f32 those below 1.2e-38.
enum class Denormals : uint8_t {
  compute,  // what IEEE 754 says, for which some processors take many cycles each
  flush,    // results become zero, and operands are read as zero
};

// All exceptions masked, round to nearest even. Restores the thread's own state, flags too.
class FloatState {
 public:
  explicit FloatState(Denormals denormals = Denormals::compute) : before_(_mm_getcsr()) {
    enter(denormals);
  }
  ~FloatState() { _mm_setcsr(before_); }
  FloatState(const FloatState&) = delete;
  FloatState& operator=(const FloatState&) = delete;

  // For a thread that does nothing else.
  static void enter(Denormals denormals) {
    constexpr unsigned kComputed = 0x1F80, kFlushed = kComputed | 0x8040;  // FTZ and DAZ
    _mm_setcsr(denormals == Denormals::flush ? kFlushed : kComputed);
  }

 private:
  unsigned before_;
};

}  // namespace planck
