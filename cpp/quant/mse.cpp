#include <algorithm>

#include "quant/calibrators.h"

namespace planck {
namespace {

constexpr int kCoarse = 256;  // thresholds absmax * k / 256
constexpr int kFine = 16;     // and these parts of a coarse step around the best

}  // namespace

// Thresholds fall, and only a smaller error wins: ties go to the largest.
LeastError least_error(const Evidence& evidence, DType dtype) {
  const double absmax = evidence.data.absmax();
  const auto at = [&](int sixteenths) {
    const double threshold = absmax * sixteenths / (kCoarse * kFine);
    return LeastError{threshold, evidence.error(grid_of(dtype, threshold, evidence.data))};
  };
  int best = kCoarse * kFine;
  LeastError least = at(best);
  for (int k = kCoarse - 1; k > 0; --k) {
    const LeastError here = at(k * kFine);
    if (here.error >= least.error) continue;
    least = here;
    best = k * kFine;
  }
  const int highest = std::min(best + kFine - 1, kCoarse * kFine);
  LeastError fine = at(highest);
  for (int i = highest - 1; i > best - kFine; --i) {
    const LeastError here = i == best ? least : at(i);
    if (here.error < fine.error) fine = here;
  }
  return fine;
}

double solve_mse(const Evidence& evidence, const SolveOptions&, DType dtype) {
  return least_error(evidence, dtype).threshold;
}

}  // namespace planck
