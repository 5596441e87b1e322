#include "ops/product.h"

#include <Eigen/Core>
#include <algorithm>

#include "base/guard.h"

namespace planck {

void product(const double* a, const double* b, double* c, const ProductSize& size) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::Map<Matrix> out(c, size.m, size.n);
  if (size.k == 0) {
    out.setZero();
    return;
  }
  // Rows at a time, so that a long product can be ended between two blocks.
  constexpr int64_t kMost = int64_t{1} << 26, kFewest = 16;
  const int64_t row = std::max<int64_t>(size.k * size.n, 1);
  const int64_t block = std::max(kFewest, kMost / row);
  const Eigen::Map<const Matrix> left(a, size.m, size.k), right(b, size.k, size.n);
  for (int64_t first = 0; first < size.m; first += block) {
    check_guard();
    const int64_t rows = std::min(block, size.m - first);
    out.middleRows(first, rows).noalias() = left.middleRows(first, rows) * right;
  }
}

}  // namespace planck
