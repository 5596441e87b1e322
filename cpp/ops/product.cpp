#include "ops/product.h"

#include <Eigen/Core>

namespace planck {

void product(const double* a, const double* b, double* c, const ProductSize& size) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::Map<Matrix> out(c, size.m, size.n);
  if (size.k == 0) {
    out.setZero();
    return;
  }
  out.noalias() =
      Eigen::Map<const Matrix>(a, size.m, size.k) * Eigen::Map<const Matrix>(b, size.k, size.n);
}

}  // namespace planck
