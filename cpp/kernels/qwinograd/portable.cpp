#include <cstdint>

namespace planck {
namespace {

constexpr int64_t kLanes = 16;

// Unsigned, which wraps.
template <class Lane>
struct Lanes {
  Lane x[kLanes];
};
struct Words : Lanes<uint16_t> {
  static constexpr int64_t kChannels = kLanes;
  static Words load(const uint8_t* from) {
    Words y;
    for (int64_t i = 0; i < kLanes; ++i) y.x[i] = from[i];
    return y;
  }
  // The first bytes, and zeros.
  static Words load_some(const uint8_t* from, int64_t count) {
    uint8_t bytes[kChannels] = {};
    for (int64_t i = 0; i < count; ++i) bytes[i] = from[i];
    return load(bytes);
  }
};
struct Sums : Lanes<uint32_t> {
  static constexpr int64_t kColumns = kLanes;
  static Sums load(const int32_t* from) {
    Sums y;
    for (int64_t i = 0; i < kLanes; ++i) y.x[i] = static_cast<uint32_t>(from[i]);
    return y;
  }
};

template <class Lane>
void put(Lane& to, uint32_t x) {
  to = static_cast<Lane>(x);
}
template <class Vector>
Vector operator+(const Vector& a, const Vector& b) {
  Vector y;
  for (int64_t i = 0; i < kLanes; ++i) put(y.x[i], uint32_t{a.x[i]} + b.x[i]);
  return y;
}
template <class Vector>
Vector operator-(const Vector& a, const Vector& b) {
  Vector y;
  for (int64_t i = 0; i < kLanes; ++i) put(y.x[i], uint32_t{a.x[i]} - b.x[i]);
  return y;
}
template <int kBy, class Vector>
Vector shifted(const Vector& a) {
  Vector y;
  for (int64_t i = 0; i < kLanes; ++i) put(y.x[i], uint32_t{a.x[i]} << kBy);
  return y;
}
template <int kBy>
Sums shifted_down(const Sums& a) {
  Sums y;
  for (int64_t i = 0; i < kLanes; ++i) {
    y.x[i] = static_cast<uint32_t>(static_cast<int32_t>(a.x[i]) >> kBy);
  }
  return y;
}
Sums times(const Sums& a, uint32_t by) {
  Sums y;
  for (int64_t i = 0; i < kLanes; ++i) y.x[i] = a.x[i] * by;
  return y;
}
void store(int16_t* to, const Words& a) {
  for (int64_t i = 0; i < kLanes; ++i) to[i] = static_cast<int16_t>(a.x[i]);
}
void store(int32_t* to, const Sums& a) {
  for (int64_t i = 0; i < kLanes; ++i) to[i] = static_cast<int32_t>(a.x[i]);
}

}  // namespace
}  // namespace planck

// The vectors come first: the family is written in their terms.
#include "kernels/qwinograd/qwinograd_impl.h"

namespace planck {

void qwinograd_u8_4x4_portable_input(const QwinogradInput& in) { input_of<4, Words>(in); }
void qwinograd_u8_2x2_portable_input(const QwinogradInput& in) { input_of<2, Words>(in); }
void qwinograd_u8_4x4_portable_output(const QwinogradOutput& out) { output_of<4, Sums>(out); }
void qwinograd_u8_2x2_portable_output(const QwinogradOutput& out) { output_of<2, Sums>(out); }

}  // namespace planck
