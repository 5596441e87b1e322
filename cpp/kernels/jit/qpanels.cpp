#include "kernels/jit/qpanels.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/guard.h"
#include "kernels/jit/qproofs.h"

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

}  // namespace

int64_t panel_bytes(const QPanelShape& s) {
  if (s.proves) return ProofLayout(s.k).bytes;
  return checked_mul(s.width, round_up(s.k, s.k_step), "packed weights");
}

int64_t packed_bytes(const QPanelShape& s) {
  return checked_mul(ceil_div(s.n, s.width), panel_bytes(s), "packed weights");
}

bool proofs_hold(const QPanelShape& s, const int8_t* packed) {
  if (!s.proves) return true;
  const ProofLayout layout(s.k);
  for (int64_t first = 0; first < s.n; first += s.width, packed += layout.bytes) {
    check_guard();
    if (!panel_holds(layout, packed)) return false;
  }
  return true;
}

void pack_panels(const QPanelShape& s, const int8_t* b, int64_t row_stride, int64_t column_stride,
                 int8_t* packed) {
  std::memset(packed, 0, static_cast<size_t>(packed_bytes(s)));
  each(s, row_stride, column_stride, [&](int64_t to, int64_t from) { packed[to] = b[from]; });
  if (!s.proves) return;
  const ProofLayout layout(s.k);
  for (int64_t first = 0; first < s.n; first += s.width, packed += layout.bytes) {
    check_guard();
    prove_panel(layout, packed);
  }
}

void unpack_panels(const QPanelShape& s, const int8_t* packed, int8_t* b, int64_t row_stride,
                   int64_t column_stride) {
  const auto unpack = [&](const QPanelShape& shape, const int8_t* from, int8_t* to) {
    each(shape, row_stride, column_stride,
         [&](int64_t at, int64_t place) { to[place] = from[at]; });
  };
  if (!s.proves) return unpack(s, packed, b);
  const ProofLayout layout(s.k);
  std::vector<int8_t> whole(static_cast<size_t>(layout.groups_at));
  for (int64_t first = 0; first < s.n; first += s.width, packed += layout.bytes) {
    restore_panel(layout, packed, whole.data());
    QPanelShape one = s;
    one.n = std::min(s.width, s.n - first);
    unpack(one, whole.data(), b + first * column_stride);
  }
}

}  // namespace planck::jit
