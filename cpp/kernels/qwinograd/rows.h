#pragma once
// The products of kernels/qmatmul whose row has the unit winograd: cut, weights, proof.
#include "kernels/qmatmul/rows.h"
#include "kernels/qwinograd/qwinograd.h"

namespace planck {

// Windows that such rows take.
bool is_qwinograd(const WindowSteps& axis);

// As plan_qmatmul, for args with windows of 3 x 3.
Job plan_qwinograd(const QmatmulRow& row, QmatmulArgs& args);

// Weights [9 * channels, n], taps outside as kernels/qmatmul takes them, transformed: for each
// panel of 16 columns [16 points][pairs of channels][16 columns][2] numbers of 16 bits, zeros where
// columns or channels end. k is 9 * channels.
namespace qwinograd {
int64_t panel_bytes(int64_t k);
int64_t packed_bytes(int64_t n, int64_t k);
void pack(int64_t n, int64_t k, const int8_t* b, int64_t row_stride, int64_t column_stride,
          int8_t* packed);
void unpack(int64_t n, int64_t k, const int8_t* packed, int8_t* b, int64_t row_stride,
            int64_t column_stride);
// Whether four times a sum of the weights' products with any bytes fits 32 bits.
bool weights_fit(int64_t n, int64_t k, const int8_t* b, int64_t row_stride, int64_t column_stride);
// Whether packed weights are what pack makes of some that fit.
bool proofs_hold(int64_t n, int64_t k, const int8_t* packed);
}  // namespace qwinograd

}  // namespace planck
