#pragma once
// |x| as solvers see it: zeros in bin 0, only the bins in use. A copy: statistics never change.
#include <cstdint>
#include <vector>

#include "quant/collector.h"

namespace planck {

struct Magnitudes {
  double width = 0;             // of a bin
  double absmax = 0;            // exact
  std::vector<int64_t> counts;  // up to the last bin that holds anything
  int64_t total() const;
};

Magnitudes magnitudes(const Histogram& h);
// Bins added in pairs, so that 1025 to 2048 are in use.
Magnitudes merged_once(const Magnitudes& m);
Magnitudes magnitudes(const EqualBins& bins);

// The share of elements with |x| > threshold, linear inside a bin.
double share_above(const Magnitudes& m, double threshold);

}  // namespace planck
