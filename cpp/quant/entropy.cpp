// The threshold whose clipped histogram P loses least information when it is quantised to 128
// levels, Q: S. Migacz, "8-bit Inference with TensorRT", GTC 2017, in closed form.
//
// For a candidate i, P is h[0, i) with the tail t = N - sum h[0, i) added to bin i - 1, and Q is
// h[0, i) averaged over the non-empty bins of 128 groups, group(j) = floor(128 j / i). With prefix
// sums of the counts (S0), of the non-empty bins (S1) and of c ln c (S2):
//
//   KL_i = (S2[i-1] + (last + t) ln(last + t)) / N - ln N
//          - (1/N) sum over groups with C > 0 of C' ln(C / (n S0[i]))
//
// where C and n are the count and the non-empty bins of a group, and C' = C, plus t in the last.
#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/calibrators.h"

namespace planck {
namespace {

constexpr double kTie = 1e-12;  // divergences as close as this are equal: the largest i wins

double c_ln_c(int64_t count) {
  const auto c = static_cast<double>(count);
  return count > 0 ? c * std::log(c) : 0;
}

struct PrefixSums {
  std::vector<int64_t> count{0}, filled{0};  // S0, S1
  std::vector<double> c_ln_c{0};             // S2
};

PrefixSums prefix_sums(const std::vector<int64_t>& counts) {
  PrefixSums s;
  for (const int64_t c : counts) {
    s.count.push_back(s.count.back() + c);
    s.filled.push_back(s.filled.back() + (c > 0 ? 1 : 0));
    s.c_ln_c.push_back(s.c_ln_c.back() + c_ln_c(c));
  }
  return s;
}

// Sum over groups of C' ln(C / (n S0[i])).
double group_sum(const PrefixSums& s, size_t i, int64_t tail) {
  double sum = 0;
  const auto kept = static_cast<double>(s.count[i]);
  size_t from = 0;
  for (size_t g = 0; g < kEntropyLevels; ++g) {
    const size_t to = ((g + 1) * i + kEntropyLevels - 1) / kEntropyLevels;
    const int64_t count = s.count[to] - s.count[from];
    if (count > 0) {
      const auto filled = static_cast<double>(s.filled[to] - s.filled[from]);
      const auto c = static_cast<double>(count);
      const auto with_tail = static_cast<double>(g + 1 == kEntropyLevels ? count + tail : count);
      sum += with_tail * std::log(c / (filled * kept));
    }
    from = to;
  }
  return sum;
}

// The index i of the threshold (i + 0.5) * width; 0 where every bin has a level of its own.
size_t best_candidate(const std::vector<int64_t>& counts) {
  const auto filled = std::ranges::count_if(counts, [](int64_t c) { return c > 0; });
  if (filled <= kEntropyLevels) return 0;
  const std::vector<double> kl = divergences(counts);
  const double least = *std::ranges::min_element(kl);
  size_t best = kl.size() - 1;
  while (best > 0 && !(kl[best] <= least + kTie)) --best;
  return best + kEntropyLevels;
}

}  // namespace

std::vector<int64_t> after_zero_policy(std::vector<int64_t> counts, std::string_view policy) {
  if (policy == "skip" && counts.size() > 1) counts[0] = counts[1];
  return counts;
}

std::vector<double> divergences(const std::vector<int64_t>& counts) {
  std::vector<double> kl;
  const PrefixSums s = prefix_sums(counts);
  const int64_t total = s.count.back();
  const auto n = static_cast<double>(total);
  for (size_t i = kEntropyLevels; i <= counts.size(); ++i) {
    const int64_t tail = total - s.count[i], last = counts[i - 1];
    if (s.count[i] == 0 || (tail > 0 && last == 0)) {
      kl.push_back(std::numeric_limits<double>::infinity());
      continue;
    }
    const double p = (s.c_ln_c[i - 1] + c_ln_c(last + tail)) / n - std::log(n);
    kl.push_back(p - group_sum(s, i, tail) / n);
  }
  return kl;
}

double solve_entropy(const Evidence& evidence, const SolveOptions& options, DType) {
  const Magnitudes m = evidence.equal != nullptr ? magnitudes(*evidence.equal)
                                                 : merged_once(magnitudes(evidence.data));
  const size_t i = best_candidate(after_zero_policy(m.counts, options.zero_policy));
  if (i == 0) return m.absmax;
  const double threshold = (static_cast<double>(i) + 0.5) * m.width;
  const bool capped = evidence.equal == nullptr && !options.trt_compat;
  return capped ? std::min(threshold, m.absmax) : threshold;
}

}  // namespace planck
