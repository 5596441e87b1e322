#pragma once
// The products of kernels/qmatmul whose row has a unit of Winograd: cut, weights, proof.
#include "kernels/qmatmul/rows.h"
#include "kernels/qwinograd/qwinograd.h"

namespace planck {

// Windows that such rows take.
bool is_qwinograd(const WindowSteps& axis);

// As plan_qmatmul, for args with windows of 3 x 3.
Job plan_qwinograd(const QmatmulRow& row, QmatmulArgs& args);

// Weights [9 * channels, n], taps outside as kernels/qmatmul takes them, transformed: for each
// panel of 16 columns [points][pairs of channels][16 columns][2] numbers of 16 bits, zeros where
// columns or channels end.
struct QwinogradWeights {
  QwinogradForm form;
  int64_t n, k;  // k: 9 * channels
};
// A convolution of one picture.
struct QwinogradShape {
  QwinogradForm form;
  int64_t n, channels;
  int64_t rows, columns;  // outputs
};
namespace qwinograd {
// Time by arithmetic, in cycles of one core; `rate`: products in a cycle.
double cycles(const QwinogradShape& shape, double rate, const QmatmulRow& row);
int64_t panel_bytes(const QwinogradWeights& weights);
int64_t packed_bytes(const QwinogradWeights& weights);
void pack(const QwinogradWeights& weights, const int8_t* b, int64_t row_stride,
          int64_t column_stride, int8_t* packed);
void unpack(const QwinogradWeights& weights, const int8_t* packed, int8_t* b, int64_t row_stride,
            int64_t column_stride);
// The greatest magnitude that sums of the weights' products with any bytes reach,
int64_t most_of(int64_t n, int64_t k, const int8_t* b, int64_t row_stride, int64_t column_stride);
// and may reach: what the transform back makes of it fits 32 bits.
int64_t bound_of(QwinogradForm form);
// Whether packed weights are what pack makes of some that keep to the bound.
bool proofs_hold(const QwinogradWeights& weights, const int8_t* packed);
}  // namespace qwinograd

}  // namespace planck
