#pragma once
// Linear layers and convolutions whose operands lie on grids become exact integer products. The
// input is read as the u8 tensor behind its DequantizeLinear, the constant weights are taken back
// to the integers that they stand for (Value::quant), and what follows - bias, residual,
// activation, QuantizeLinear - happens as the product is stored.
#include <optional>
#include <string>
#include <vector>

#include "builder/lowering.h"

namespace planck {

// A tensor of bytes behind a DequantizeLinear.
struct ByteSource {
  const Node* node = nullptr;  // the DequantizeLinear; none: the value is not dequantised
  float scale = 0;             // 0: the run alone knows scale and zero point
  int32_t zero = 0;
  std::string refusal;  // why an integer product cannot read it
  bool readable() const { return node != nullptr && refusal.empty(); }
};
ByteSource byte_source(const Graph& g, ValueId v);

// The weights of a product as integers: [k, n] row-major, a scale for each column.
struct IntegerWeights {
  int64_t n = 0, k = 0;
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::string refusal;  // why they are none
};
// Columns [first, first + n) of all that the grid is for, as a matrix [k, n]; the grid has one
// scale, or one for each column along `axis` of the value that the matrix was made of.
IntegerWeights integer_weights(const Tensor& matrix, const QParams* grid, int64_t axis,
                               int64_t first);

// What the step computes, apart from its weights.
struct IntegerProduct {
  const Node* node = nullptr;  // planck.Linear, planck.Convolution or ConvTranspose
  ByteSource input;
  int64_t channels = 0;
  std::vector<WindowParams> windows;  // none: rows
  bool residual_first = false;        // before the activation
  std::string_view activation;
  bool depthwise = false;  // each channel stays by itself
};
// As kernels see them; y and residual with columns [first, first + n) of all that the node has.
struct ProductPlace {
  int32_t x = -1, y = -1, residual = -1;
  int64_t first = 0;
};
// A residual as the bytes behind its DequantizeLinear, if it has one that programs can read.
int32_t byte_residual(Lowering& l, ValueId residual);
// `tail` follows the product's own epilogue; its operand 0 is the result of that.
void add_integer_product(Lowering& l, const IntegerProduct& product, const IntegerWeights& weights,
                         const ProductPlace& place, const TileProgram& tail, Origin origin);

// Clips and a QuantizeLinear to u8, if that is all that the program is; then both roundings of
// "times multiplier" and "divided by scale" become one.
struct Requantized {
  float scale = 1;
  Requantize bounds;
};
std::optional<Requantized> as_requantize(const TileProgram& program);

}  // namespace planck
