#include "quant/magnitudes.h"

#include <algorithm>
#include <numeric>

namespace planck {
namespace {

void drop_unused(std::vector<int64_t>& counts) {
  while (!counts.empty() && counts.back() == 0) counts.pop_back();
}

}  // namespace

int64_t Magnitudes::total() const {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

Magnitudes magnitudes(const Histogram& h) {
  Magnitudes m{h.bin_width(), h.absmax(), std::vector<int64_t>(kBins, 0)};
  for (const Bins* side : {&h.neg, &h.pos}) {
    for (size_t j = 0; j < side->size(); ++j) m.counts[j] += (*side)[j];
  }
  m.counts[0] += h.zeros;
  drop_unused(m.counts);
  return m;
}

Magnitudes merged_once(const Magnitudes& m) {
  Magnitudes out{2 * m.width, m.absmax, std::vector<int64_t>((m.counts.size() + 1) / 2, 0)};
  for (size_t j = 0; j < m.counts.size(); ++j) out.counts[j / 2] += m.counts[j];
  return out;
}

Magnitudes magnitudes(const EqualBins& bins) {
  Magnitudes m{static_cast<double>(bins.absmax) / kEqualBins, bins.absmax,
               std::vector<int64_t>(bins.bins.begin(), bins.bins.end())};
  m.counts[0] += bins.zeros;
  drop_unused(m.counts);
  return m;
}

double share_above(const Magnitudes& m, double threshold) {
  if (threshold >= m.absmax) return 0;
  double above = 0;
  for (size_t j = 0; j < m.counts.size(); ++j) {
    const double part = (static_cast<double>(j + 1) * m.width - threshold) / m.width;
    above += static_cast<double>(m.counts[j]) * std::clamp(part, 0.0, 1.0);
  }
  return above / static_cast<double>(m.total());
}

}  // namespace planck
