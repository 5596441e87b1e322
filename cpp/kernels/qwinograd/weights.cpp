// Transformed weights and the way back. G is doubled, so that all is whole: 2 G = {2,0,0}, {1,1,1},
// {1,-1,1}, {0,0,2}, and what it makes of bytes is 1152 at most.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/guard.h"
#include "kernels/qwinograd/rows.h"

namespace planck::qwinograd {
namespace {

constexpr int64_t kTaps = 9, kSide = 3, kPair = 2;
constexpr int64_t kLanes = kQwinogradLanes, kPoints = kQwinogradPoints;

// What is not a multiple of the taps is no convolution: of a plan that is refused.
int64_t channels_of(int64_t k) { return ceil_div(k, kTaps); }
int64_t pairs_of(int64_t k) { return ceil_div(channels_of(k), kPair); }

void along(const int* g, int64_t step, int* u) {
  u[0] = 2 * g[0];
  u[1] = g[0] + g[step] + g[2 * step];
  u[2] = g[0] - g[step] + g[2 * step];
  u[3] = 2 * g[2 * step];
}
void back(const int* u, int64_t step, int* g) {
  g[0] = u[0] / 2;
  g[2] = u[3 * step] / 2;
  g[1] = (u[step] - u[2 * step]) / 2;
}

void transform(const int* taps, int* points) {
  int rows[kQwinogradIn * kSide];
  for (int64_t x = 0; x < kSide; ++x) {
    int u[kQwinogradIn];
    along(taps + x, kSide, u);
    for (int64_t y = 0; y < kQwinogradIn; ++y) rows[y * kSide + x] = u[y];
  }
  for (int64_t y = 0; y < kQwinogradIn; ++y) along(rows + y * kSide, 1, points + y * kQwinogradIn);
}
void restore(const int* points, int* taps) {
  int rows[kQwinogradIn * kSide];
  for (int64_t y = 0; y < kQwinogradIn; ++y) back(points + y * kQwinogradIn, 1, rows + y * kSide);
  for (int64_t x = 0; x < kSide; ++x) {
    int g[kSide];
    back(rows + x, kSide, g);
    for (int64_t y = 0; y < kSide; ++y) taps[y * kSide + x] = g[y];
  }
}

// Numbers of 16 bits from the start of a panel.
int64_t place_of(int64_t pairs, int64_t point, int64_t channel, int64_t column) {
  return ((point * pairs + channel / kPair) * kLanes + column) * kPair + channel % kPair;
}

// Of one panel, whose weights are b[row * row_stride + column * column_stride].
struct Panel {
  int64_t columns, channels;
  int64_t row_stride, column_stride;
  int64_t place(int64_t tap, int64_t channel, int64_t column) const {
    return (tap * channels + channel) * row_stride + column * column_stride;
  }
};

void pack_panel(const Panel& p, const int8_t* b, int16_t* to) {
  const int64_t pairs = ceil_div(p.channels, kPair);
  std::fill_n(to, kPoints * pairs * kLanes * kPair, int16_t{0});
  for (int64_t channel = 0; channel < p.channels; ++channel) {
    for (int64_t j = 0; j < p.columns; ++j) {
      int taps[kTaps], points[kPoints];
      for (int64_t tap = 0; tap < kTaps; ++tap) taps[tap] = b[p.place(tap, channel, j)];
      transform(taps, points);
      for (int64_t i = 0; i < kPoints; ++i) {
        to[place_of(pairs, i, channel, j)] = static_cast<int16_t>(points[i]);
      }
    }
  }
}
void unpack_panel(const Panel& p, const int16_t* from, int8_t* b) {
  const int64_t pairs = ceil_div(p.channels, kPair);
  for (int64_t channel = 0; channel < p.channels; ++channel) {
    for (int64_t j = 0; j < p.columns; ++j) {
      int taps[kTaps], points[kPoints];
      for (int64_t i = 0; i < kPoints; ++i) points[i] = from[place_of(pairs, i, channel, j)];
      restore(points, taps);
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        b[p.place(tap, channel, j)] = static_cast<int8_t>(taps[tap]);
      }
    }
  }
}

// Visits every panel: (it, its first column).
void each_panel(int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                const auto& visit) {
  for (int64_t first = 0; first < n; first += kLanes) {
    check_guard();
    visit(Panel{std::min(kLanes, n - first), channels_of(k), row_stride, column_stride}, first);
  }
}

}  // namespace

int64_t panel_bytes(int64_t k) {
  constexpr int64_t kOne = kPoints * kLanes * kPair * int64_t{sizeof(int16_t)};
  return checked_mul(kOne, pairs_of(k), "packed weights");
}
int64_t packed_bytes(int64_t n, int64_t k) {
  return checked_mul(ceil_div(n, kLanes), panel_bytes(k), "packed weights");
}

void pack(int64_t n, int64_t k, const int8_t* b, int64_t row_stride, int64_t column_stride,
          int8_t* packed) {
  each_panel(n, k, row_stride, column_stride, [&](const Panel& panel, int64_t first) {
    auto* to = reinterpret_cast<int16_t*>(packed + first / kLanes * panel_bytes(k));
    pack_panel(panel, b + first * column_stride, to);
  });
}

void unpack(int64_t n, int64_t k, const int8_t* packed, int8_t* b, int64_t row_stride,
            int64_t column_stride) {
  each_panel(n, k, row_stride, column_stride, [&](const Panel& panel, int64_t first) {
    const int8_t* from = packed + first / kLanes * panel_bytes(k);
    unpack_panel(panel, reinterpret_cast<const int16_t*>(from), b + first * column_stride);
  });
}

bool weights_fit(int64_t n, int64_t k, const int8_t* b, int64_t row_stride, int64_t column_stride) {
  constexpr int64_t kMost = INT32_MAX / (4 * int64_t{UINT8_MAX});
  for (int64_t j = 0; j < n; ++j) {
    int64_t up = 0, down = 0;
    for (int64_t i = 0; i < k; ++i) {
      const int64_t weight = b[i * row_stride + j * column_stride];
      (weight > 0 ? up : down) += weight;
    }
    if (up > kMost || -down > kMost) return false;
  }
  return true;
}

bool proofs_hold(int64_t n, int64_t k, const int8_t* packed) {
  if (k % kTaps != 0) return false;
  const auto bytes = static_cast<size_t>(panel_bytes(k));
  std::vector<int8_t> weights(static_cast<size_t>(checked_mul(k, kLanes, "weights")));
  std::vector<int16_t> again(bytes / sizeof(int16_t));
  bool hold = true;
  each_panel(n, k, kLanes, 1, [&](const Panel& panel, int64_t first) {
    const int8_t* given = packed + first / kLanes * panel_bytes(k);
    unpack_panel(panel, reinterpret_cast<const int16_t*>(given), weights.data());
    pack_panel(panel, weights.data(), again.data());
    hold = hold && std::memcmp(again.data(), given, bytes) == 0 &&
           weights_fit(panel.columns, k, weights.data(), kLanes, 1);
  });
  return hold;
}

}  // namespace planck::qwinograd
