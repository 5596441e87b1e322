// Transformed weights and the way back. G's rows, made whole: {2,0,0}, {1,1,1}, {1,-1,1}, {0,0,2}
// for 2 outputs, {1,0,0}, {-1,-1,-1}, {-1,1,-1}, {1,2,4}, {1,-2,4}, {0,0,1} for 4. What they make
// of 9 bytes is 1152 and 6272 at most.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/guard.h"
#include "kernels/qwinograd/rows.h"

namespace planck::qwinograd {
namespace {

constexpr int64_t kTaps = 9, kSide = 3, kPair = 2;
constexpr int64_t kLanes = kQwinogradLanes;
constexpr int64_t kMostIn = 6;

// What is not a multiple of the taps is no convolution: of a plan that is refused.
int64_t channels_of(int64_t k) { return ceil_div(k, kTaps); }
int64_t pairs_of(int64_t k) { return ceil_div(channels_of(k), kPair); }

void along(QwinogradForm form, const int* g, int64_t step, int* u) {
  const int g0 = g[0], g1 = g[step], g2 = g[2 * step];
  if (form.out == 2) {
    u[0] = 2 * g0, u[1] = g0 + g1 + g2, u[2] = g0 - g1 + g2, u[3] = 2 * g2;
  } else {
    u[0] = g0, u[1] = -g0 - g1 - g2, u[2] = -g0 + g1 - g2;
    u[3] = g0 + 2 * g1 + 4 * g2, u[4] = g0 - 2 * g1 + 4 * g2, u[5] = g2;
  }
}
void back(QwinogradForm form, const int* u, int* g) {
  if (form.out == 2) {
    g[0] = u[0] / 2, g[1] = (u[1] - u[2]) / 2, g[2] = u[3] / 2;
  } else {
    g[0] = u[0], g[1] = (u[2] - u[1]) / 2, g[2] = u[5];
  }
}

void transform(QwinogradForm form, const int* taps, int* points) {
  int rows[kMostIn * kSide] = {};
  for (int64_t x = 0; x < kSide; ++x) {
    int u[kMostIn];
    along(form, taps + x, kSide, u);
    for (int64_t y = 0; y < form.in(); ++y) rows[y * kSide + x] = u[y];
  }
  for (int64_t y = 0; y < form.in(); ++y) along(form, rows + y * kSide, 1, points + y * form.in());
}
void restore(QwinogradForm form, const int* points, int* taps) {
  int rows[kMostIn * kSide] = {};
  for (int64_t y = 0; y < form.in(); ++y) back(form, points + y * form.in(), rows + y * kSide);
  for (int64_t x = 0; x < kSide; ++x) {
    int column[kMostIn] = {}, g[kSide];
    for (int64_t y = 0; y < form.in(); ++y) column[y] = rows[y * kSide + x];
    back(form, column, g);
    for (int64_t y = 0; y < kSide; ++y) taps[y * kSide + x] = g[y];
  }
}

// Numbers of 16 bits from the start of a panel.
int64_t place_of(int64_t pairs, int64_t point, int64_t channel, int64_t column) {
  return ((point * pairs + channel / kPair) * kLanes + column) * kPair + channel % kPair;
}

// Of one panel, whose weights are b[row * row_stride + column * column_stride].
struct Panel {
  QwinogradForm form;
  int64_t columns, channels;
  int64_t row_stride, column_stride;
  int64_t place(int64_t tap, int64_t channel, int64_t column) const {
    return (tap * channels + channel) * row_stride + column * column_stride;
  }
};

void pack_panel(const Panel& p, const int8_t* b, int16_t* to) {
  const int64_t pairs = ceil_div(p.channels, kPair);
  std::fill_n(to, p.form.points() * pairs * kLanes * kPair, int16_t{0});
  for (int64_t channel = 0; channel < p.channels; ++channel) {
    for (int64_t j = 0; j < p.columns; ++j) {
      int taps[kTaps], points[kQwinogradMostPoints];
      for (int64_t tap = 0; tap < kTaps; ++tap) taps[tap] = int{b[p.place(tap, channel, j)]};
      transform(p.form, taps, points);
      for (int64_t i = 0; i < p.form.points(); ++i) {
        to[place_of(pairs, i, channel, j)] = static_cast<int16_t>(points[i]);
      }
    }
  }
}
void unpack_panel(const Panel& p, const int16_t* from, int8_t* b) {
  const int64_t pairs = ceil_div(p.channels, kPair);
  for (int64_t channel = 0; channel < p.channels; ++channel) {
    for (int64_t j = 0; j < p.columns; ++j) {
      int taps[kTaps], points[kQwinogradMostPoints];
      for (int64_t i = 0; i < p.form.points(); ++i)
        points[i] = from[place_of(pairs, i, channel, j)];
      restore(p.form, points, taps);
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        b[p.place(tap, channel, j)] = static_cast<int8_t>(taps[tap]);
      }
    }
  }
}

// Visits every panel: (it, its first column).
void each_panel(const QwinogradWeights& w, int64_t row_stride, int64_t column_stride,
                const auto& visit) {
  for (int64_t first = 0; first < w.n; first += kLanes) {
    check_guard();
    const int64_t columns = std::min(kLanes, w.n - first);
    visit(Panel{w.form, columns, channels_of(w.k), row_stride, column_stride}, first);
  }
}

}  // namespace

int64_t panel_bytes(const QwinogradWeights& w) {
  constexpr int64_t kPoint = kLanes * kPair * int64_t{sizeof(int16_t)};
  return checked_mul(w.form.points() * kPoint, pairs_of(w.k), "packed weights");
}
int64_t packed_bytes(const QwinogradWeights& w) {
  return checked_mul(ceil_div(w.n, kLanes), panel_bytes(w), "packed weights");
}

void pack(const QwinogradWeights& w, const int8_t* b, int64_t row_stride, int64_t column_stride,
          int8_t* packed) {
  each_panel(w, row_stride, column_stride, [&](const Panel& panel, int64_t first) {
    auto* to = reinterpret_cast<int16_t*>(packed + first / kLanes * panel_bytes(w));
    pack_panel(panel, b + first * column_stride, to);
  });
}

void unpack(const QwinogradWeights& w, const int8_t* packed, int8_t* b, int64_t row_stride,
            int64_t column_stride) {
  each_panel(w, row_stride, column_stride, [&](const Panel& panel, int64_t first) {
    const int8_t* from = packed + first / kLanes * panel_bytes(w);
    unpack_panel(panel, reinterpret_cast<const int16_t*>(from), b + first * column_stride);
  });
}

int64_t most_of(int64_t n, int64_t k, const int8_t* b, int64_t row_stride, int64_t column_stride) {
  int64_t most = 0;
  for (int64_t j = 0; j < n; ++j) {
    int64_t up = 0, down = 0;
    for (int64_t i = 0; i < k; ++i) {
      const int weight = int{b[i * row_stride + j * column_stride]};
      (weight > 0 ? up : down) += weight;
    }
    most = std::max({most, UINT8_MAX * up, -UINT8_MAX * down});
  }
  return most;
}

int64_t bound_of(QwinogradForm form) {
  const int64_t factor = form.out == 2 ? 4 : 64;
  return INT32_MAX / factor;
}

bool proofs_hold(const QwinogradWeights& w, const int8_t* packed) {
  if (w.k % kTaps != 0) return false;
  const auto bytes = static_cast<size_t>(panel_bytes(w));
  std::vector<int8_t> weights(static_cast<size_t>(checked_mul(w.k, kLanes, "weights")));
  std::vector<int16_t> again(bytes / sizeof(int16_t));
  bool hold = true;
  each_panel(w, kLanes, 1, [&](const Panel& panel, int64_t first) {
    const int8_t* given = packed + first / kLanes * panel_bytes(w);
    unpack_panel(panel, reinterpret_cast<const int16_t*>(given), weights.data());
    pack_panel(panel, weights.data(), again.data());
    hold = hold && std::memcmp(again.data(), given, bytes) == 0 &&
           most_of(panel.columns, w.k, weights.data(), kLanes, 1) <= bound_of(w.form);
  });
  return hold;
}

}  // namespace planck::qwinograd
