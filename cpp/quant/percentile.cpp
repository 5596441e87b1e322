#include <algorithm>

#include "quant/calibrators.h"

namespace planck {

// The first bin whose cumulative count, zeros included, reaches the share; linear inside it.
double solve_percentile(const Evidence& evidence, const SolveOptions& options, DType) {
  const Magnitudes m = magnitudes(evidence.data);
  const double wanted = options.percentile / 100 * static_cast<double>(m.total());
  double before = 0;
  for (size_t j = 0; j < m.counts.size(); ++j) {
    const auto here = static_cast<double>(m.counts[j]);
    if (here > 0 && before + here >= wanted) {
      const double threshold = (static_cast<double>(j) + (wanted - before) / here) * m.width;
      return std::min(threshold, m.absmax);
    }
    before += here;
  }
  return m.absmax;
}

}  // namespace planck
