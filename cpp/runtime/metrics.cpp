#include "runtime/metrics.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace planck {
namespace {

bool both_same_special(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (std::isinf(a) && a == b);
}

void add_element(double r, double x, ErrorSums& sums) {
  if (!std::isfinite(r) || !std::isfinite(x)) {
    if (!both_same_special(r, x)) ++sums.misplaced, ++sums.unequal;
    return;
  }
  const double e = x - r;
  sums.reference2 += r * r;
  sums.actual2 += x * x;
  sums.error2 += e * e;
  sums.dot += r * x;
  sums.max_abs = std::max(sums.max_abs, std::abs(e));
  sums.reference_max = std::max(sums.reference_max, std::abs(r));
  sums.unequal += e != 0 ? 1 : 0;
}

double median_relative(const Wide& reference, const Wide& actual) {
  constexpr int64_t kMost = 65'536;
  const int64_t step = std::max<int64_t>(1, reference.count() / kMost);
  std::vector<double> relative;
  for (int64_t i = 0; i < reference.count(); i += step) {
    const double r = reference.at(i), x = actual.at(i);
    if (std::isfinite(r) && std::isfinite(x) && r != 0) {
      relative.push_back(std::abs(x - r) / std::abs(r));
    }
  }
  if (relative.empty()) return 0;
  const auto middle = relative.begin() + static_cast<int64_t>(relative.size() / 2);
  std::ranges::nth_element(relative, middle);
  return *middle;
}

int64_t argmax(const Wide& w, int64_t first, int64_t count) {
  int64_t best = first;
  for (int64_t i = first; i < first + count; ++i) {
    if (w.at(i) > w.at(best)) best = i;
  }
  return best;
}

}  // namespace

ErrorSums compare(const Wide& reference, const Tensor& actual) {
  if (reference.shape != actual.shape()) {
    throw RunError("the reference has the shape ", shape_text(reference.shape), ", the result ",
                   shape_text(actual.shape()));
  }
  const Wide wide = widen(actual);
  ErrorSums sums;
  sums.count = reference.count();
  for (int64_t i = 0; i < sums.count; ++i) add_element(reference.at(i), wide.at(i), sums);
  sums.median_relative = median_relative(reference, wide);
  const int64_t columns = reference.shape.empty() ? 1 : reference.shape.back();
  for (int64_t i = 0; columns > 1 && i < sums.count; i += columns) {
    ++sums.argmax_rows;
    sums.argmax_equal += argmax(reference, i, columns) == argmax(wide, i, columns) ? 1 : 0;
  }
  return sums;
}

}  // namespace planck
