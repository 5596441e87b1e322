#include "quant/calibrators.h"

namespace planck {

// The maximum clips nothing, which data that was never seen likes: it wins where it costs little.
double solve_auto(const Evidence& evidence, const SolveOptions&, DType dtype) {
  constexpr double kLittle = 0.1;  // dB
  const double absmax = evidence.data.absmax();
  const double of_maximum = evidence.error(grid_of(dtype, absmax, evidence.data));
  const LeastError least = least_error(evidence, dtype);
  return decibel_lost(of_maximum, least.error) <= kLittle ? absmax : least.threshold;
}

}  // namespace planck
