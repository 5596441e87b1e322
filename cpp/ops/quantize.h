#pragma once
#include "ops/declare.h"

namespace planck::ops {

// The least and the greatest integer of a quantised type. UnsupportedError for wide types.
struct IntegerEnds {
  int64_t low, high;
};
IntegerEnds integer_ends(DType dtype);

// Inputs: x, scale, zero point (optional). y = saturate(round(x / scale) + zero point), halves to
// even, NaN as the lowest. Scales are one number, one for each place along `axis`, or one for each
// block of `block_size` places along it.
struct QuantizeLinear {
  PLANCK_OP_FACTS(QuantizeLinear, exact, 2, 3)
  int64_t axis = 1, block_size = 0, saturate = 1;
  int64_t output_dtype = 0;  // ONNX number; 0: the zero point's, or u8
  int64_t precision = 0;     // of the division; it is wide here anyway
  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("block_size", self.block_size);
    visit("saturate", self.saturate);
    visit("output_dtype", self.output_dtype);
    visit("precision", self.precision);
  }
};

// Inputs: q, scale, zero point (optional). x = (q - zero point) * scale.
struct DequantizeLinear {
  PLANCK_OP_FACTS(DequantizeLinear, rounding, 2, 3)
  int64_t axis = 1, block_size = 0;
  int64_t output_dtype = 0;  // ONNX number; 0: the scale's
  static void fields(auto& self, auto&& visit) {
    visit("axis", self.axis);
    visit("block_size", self.block_size);
    visit("output_dtype", self.output_dtype);
  }
};

// Bytes with or without sign, the other way: q + 128 in u8 for q in s8, q - 128 in s8 for q in u8.
// So the numbers keep their distance from a zero point that moves with them.
struct FlipSign {
  PLANCK_OWN_OP_FACTS(FlipSign, exact, 1, 1)
  PLANCK_NO_FIELDS
};

// Outputs: x in u8, scale, zero point, from the least and the greatest of x and 0.
struct DynamicQuantizeLinear {
  PLANCK_OP_FACTS(DynamicQuantizeLinear, rounding, 1, 1, 3, 3)
  PLANCK_NO_FIELDS
};

// Inputs: a, b, their zero points (optional; one number, or one for each row of a, column of b).
struct MatMulInteger {
  PLANCK_OP_FACTS(MatMulInteger, exact, 2, 4)
  PLANCK_NO_FIELDS
};

// Inputs: a, scale, zero point; b, scale, zero point; scale and zero point of y.
struct QLinearMatMul {
  PLANCK_OP_FACTS(QLinearMatMul, exact, 8, 8)
  PLANCK_NO_FIELDS
};

}  // namespace planck::ops
