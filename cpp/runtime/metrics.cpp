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

int64_t argmax(const Wide& w, int64_t first, int64_t count) {
  int64_t best = first;
  for (int64_t i = first; i < first + count; ++i) {
    if (w.at(i) > w.at(best)) best = i;
  }
  return best - first;
}

// Rows of the result, a bounded number of elements at a time.
class RowComparison {
 public:
  RowComparison(const Wide& reference, const Tensor& actual)
      : reference_(reference), actual_(actual) {
    constexpr int64_t kMostSamples = 65'536;
    sample_step_ = std::max<int64_t>(1, reference.count() / kMostSamples);
  }

  ErrorSums run() {
    sums_.count = reference_.count();
    const int64_t columns = reference_.shape.empty() ? 1 : reference_.shape.back();
    if (sums_.count == 0) return sums_;
    constexpr int64_t kElements = 65'536;
    const int64_t rows = std::max<int64_t>(1, kElements / columns);
    for (int64_t first = 0; first < sums_.count; first += rows * columns) {
      piece(first, std::min(rows * columns, sums_.count - first), columns);
    }
    if (!relative_.empty()) {
      const auto middle = relative_.begin() + static_cast<int64_t>(relative_.size() / 2);
      std::ranges::nth_element(relative_, middle);
      sums_.median_relative = *middle;
    }
    return sums_;
  }

 private:
  void piece(int64_t first, int64_t count, int64_t columns) {
    const std::byte* data = actual_.data() + first * size_of(actual_.dtype());
    const Wide wide = widen(Tensor(actual_.dtype(), {count}, data, nullptr));
    for (int64_t i = 0; i < count; ++i) {
      add_element(reference_.at(first + i), wide.at(i), sums_);
      if ((first + i) % sample_step_ == 0) sample(reference_.at(first + i), wide.at(i));
    }
    for (int64_t i = 0; columns > 1 && i < count; i += columns) {
      ++sums_.argmax_rows;
      const bool same = argmax(reference_, first + i, columns) == argmax(wide, i, columns);
      sums_.argmax_equal += same ? 1 : 0;
    }
  }

  void sample(double r, double x) {
    if (std::isfinite(r) && std::isfinite(x) && r != 0) {
      relative_.push_back(std::abs(x - r) / std::abs(r));
    }
  }

  const Wide& reference_;
  const Tensor& actual_;
  int64_t sample_step_ = 1;
  std::vector<double> relative_;
  ErrorSums sums_;
};

}  // namespace

ErrorSums compare(const Wide& reference, const Tensor& actual) {
  if (reference.shape != actual.shape()) {
    throw RunError("the reference has the shape ", shape_text(reference.shape), ", the result ",
                   shape_text(actual.shape()));
  }
  return RowComparison(reference, actual).run();
}

}  // namespace planck
