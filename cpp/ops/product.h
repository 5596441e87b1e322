#pragma once
#include <cstdint>

namespace planck {

// c[m,n] = a[m,k] b[k,n] in double, row-major and dense. Blocked (Eigen): the plain loop would
// make comparing a model take minutes; a test holds both against each other.
struct ProductSize {
  int64_t m, n, k;
};
void product(const double* a, const double* b, double* c, const ProductSize& size);

}  // namespace planck
