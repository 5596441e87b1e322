#include "kernels/jit/qpanels.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/guard.h"

namespace planck::jit {
namespace {

// Visits every element that exists: (place in packed, place in b).
void each(const QPanelShape& s, int64_t row_stride, int64_t column_stride, const auto& visit) {
  const int64_t panel = panel_bytes(s);
  for (int64_t first = 0; first < s.n; first += s.width) {
    check_guard();
    const int64_t columns = std::min(s.width, s.n - first);
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t to = first / s.width * panel + j * s.group;
      const int64_t from = (first + j) * column_stride;
      for (int64_t k = 0; k < s.k; ++k) {
        visit(to + k / s.group * s.group * s.width + k % s.group, from + k * row_stride);
      }
    }
  }
}

// Packed pairs, as far as the proof.
bool prove(const int8_t* pairs, int64_t bytes) {
  constexpr int kMost = 128;
  for (int64_t i = 0; i < bytes; i += 2) {
    const int a{pairs[i]}, b{pairs[i + 1]};
    const int up = std::max(a, 0) + std::max(b, 0), down = std::min(a, 0) + std::min(b, 0);
    if (up > kMost || down < -kMost) return false;
  }
  return true;
}

}  // namespace

int64_t panel_bytes(const QPanelShape& s) {
  const int64_t weights = checked_mul(s.width, round_up(s.k, s.k_step), "packed weights");
  return checked_add(weights, s.proves ? kProof : 0, "packed weights");
}

int64_t packed_bytes(const QPanelShape& s) {
  return checked_mul(ceil_div(s.n, s.width), panel_bytes(s), "packed weights");
}

bool proofs_hold(const QPanelShape& s, const int8_t* packed) {
  if (!s.proves) return true;
  const int64_t bytes = panel_bytes(s), all = packed_bytes(s);
  for (int64_t at = 0; at < all; at += bytes) {
    if (proven(packed + at, bytes) && !prove(packed + at, bytes - kProof)) return false;
  }
  return true;
}

void pack_panels(const QPanelShape& s, const int8_t* b, int64_t row_stride, int64_t column_stride,
                 int8_t* packed) {
  std::memset(packed, 0, static_cast<size_t>(packed_bytes(s)));
  each(s, row_stride, column_stride, [&](int64_t to, int64_t from) { packed[to] = b[from]; });
  if (!s.proves) return;
  const int64_t bytes = panel_bytes(s);
  for (int8_t* panel = packed; panel < packed + packed_bytes(s); panel += bytes) {
    panel[bytes - kProof] = prove(panel, bytes - kProof) ? 1 : 0;
  }
}

void unpack_panels(const QPanelShape& s, const int8_t* packed, int8_t* b, int64_t row_stride,
                   int64_t column_stride) {
  each(s, row_stride, column_stride, [&](int64_t to, int64_t from) { b[from] = packed[to]; });
}

}  // namespace planck::jit
