// What a convolution costs by Winograd, to be compared with products counted at their unit's rate.
// As measured on Zen 4 over ResNet-50's layers and pictures of 7 to 112 places a side.
#include <algorithm>

#include "base/checked.h"
#include "kernels/qwinograd/rows.h"

namespace planck::qwinograd {
namespace {

constexpr int64_t kLanes = kQwinogradLanes;

// For 16 channels of a patch, or 16 columns of its outputs.
double transform_in(QwinogradForm form) { return form.out == 4 ? 180 : 55; }
double transform_out(QwinogradForm form) { return form.out == 4 ? 250 : 65; }
// What follows the sums, which the rate of direct forms has in it.
double end(QwinogradForm form) { return form.out == 4 ? 250 : 65; }

// Patches are transformed for every group of panels: as plan_qwinograd cuts them.
double repeats(int64_t patches) {
  constexpr int64_t kMany = 448, kSome = 32;
  return patches >= kMany ? 1 : patches >= kSome ? 2 : 4;
}

}  // namespace

double cycles(const QwinogradShape& s, double rate, const QmatmulRow& row) {
  const double vector = row.isa == Isa::avx512 ? 0.7 : 1;  // twice as long, at half the rate
  constexpr double kCall = 20;           // of a register tile, beside its products
  constexpr double kBytesInCycle = 4.5;  // from memory, what a core of a team has of it
  constexpr double kNotHidden = 0.25;    // of traffic behind arithmetic, or of this behind that
  const int64_t out = s.form.out, points = s.form.points();
  const int64_t patches = ceil_div(s.rows, out) * ceil_div(s.columns, out);
  const int64_t panels = ceil_div(s.n, kLanes), lanes = ceil_div(s.channels, kLanes);
  const int64_t tiles = points * panels * ceil_div(patches, row.tile_m);
  const auto all = [](int64_t count) { return static_cast<double>(count); };
  const double products = all(patches * points) * all(round_up(s.channels, 2) * panels * kLanes);
  const double arithmetic =
      products / rate + all(tiles) * kCall +
      all(patches * lanes) * vector * transform_in(s.form) * repeats(patches) +
      all(patches * panels) * (vector * transform_out(s.form) + end(s.form));
  const double traffic = all(packed_bytes({s.form, s.n, 9 * s.channels})) / kBytesInCycle;
  return std::max(arithmetic, traffic) + kNotHidden * std::min(arithmetic, traffic);
}

}  // namespace planck::qwinograd
