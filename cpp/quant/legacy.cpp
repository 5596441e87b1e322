#include "quant/calibrators.h"

namespace planck {

// Scripts for TensorRT's legacy calibrator give a quantile and a regression cutoff. What the cutoff
// does was never published: it is reported and changes nothing.
double solve_legacy(const Evidence& evidence, const SolveOptions& options, DType dtype) {
  SolveOptions as_percentile = options;
  as_percentile.percentile = 100 * options.quantile;
  return solve_percentile(evidence, as_percentile, dtype);
}

}  // namespace planck
