// Weights of 2, 4 or 8 bits in blocks along the rows, as ONNX Runtime packs them: a product with
// what a DequantizeLinear makes of them. Their meaning:
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
#include "base/checked.h"
#include "base/guard.h"
#include "importer/expansions.h"
#include "importer/recipes.h"

namespace planck::importer {
namespace {

// w is [n,k], each row in blocks along k.
struct Blocks {
  int64_t n, k, bits, size;
  int64_t count() const { return ceil_div(k, size); }            // of a row
  int64_t bytes() const { return ceil_div(size * bits, 8); }     // of a block
  int64_t zeros() const { return ceil_div(count() * bits, 8); }  // bytes of a row's zero points
};

Blocks blocks_of(Draft& draft) {
  const Blocks b{needed<int64_t>(draft, "N"), needed<int64_t>(draft, "K"),
                 taken<int64_t>(draft, "bits").value_or(4), needed<int64_t>(draft, "block_size")};
  taken<int64_t>(draft, "accuracy_level");  // the least: ours is fp32
  const bool sizes = b.n > 0 && b.k > 0 && b.n <= INT32_MAX && b.k <= INT32_MAX;
  if (!sizes || b.size < 1 || b.size > INT32_MAX) {
    throw GraphError("MatMulNBits with N ", b.n, ", K ", b.k, " and blocks of ", b.size);
  }
  if (b.bits == 2 || b.bits == 4 || b.bits == 8) return b;
  throw with(UnsupportedError("MatMulNBits with ", b.bits, " bits is not supported"),
             {.expected = "2, 4 or 8 bits", .got = cat(b.bits)});
}

// The constant at an input, of so many elements.
const Tensor& constant_at(const Draft& draft, const Emitter& e, size_t i, int64_t count) {
  const Fact& fact = e.fact(needed_input(draft, i));
  if (fact.constant == nullptr) {
    throw UnsupportedError("MatMulNBits: input ", i, " must be an initializer");
  }
  if (fact.constant->count() == count) return *fact.constant;
  throw GraphError("MatMulNBits: input ", i, " is ", fact.type, ", expected ", count, " elements");
}

// Number i of those packed from the low bits up.
uint8_t unpacked(const uint8_t* bytes, int64_t i, int64_t bits) {
  const int64_t each = 8 / bits;
  const int shift = static_cast<int>(i % each * bits);
  return static_cast<uint8_t>(bytes[i / each] >> shift & ((1 << bits) - 1));
}

// Rows of `columns` numbers, each row in `pitch` bytes.
ValueId rows(Emitter& e, const Tensor& packed, int64_t n, int64_t columns, int64_t pitch,
             int64_t bits) {
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::u8, {n, columns}, &bytes);
  auto* to = reinterpret_cast<uint8_t*>(bytes);
  for (int64_t row = 0; row < n; ++row) {
    check_guard_at(static_cast<size_t>(row));
    const uint8_t* from = packed.as<uint8_t>() + row * pitch;
    for (int64_t i = 0; i < columns; ++i) *to++ = unpacked(from, i, bits);
  }
  return e.constant(std::move(out));
}

ValueId zero_points(const Draft& draft, Emitter& e, const Blocks& b) {
  if (!draft.has(3)) {
    const std::vector<uint8_t> middle(static_cast<size_t>(b.n * b.count()),
                                      static_cast<uint8_t>(1 << (b.bits - 1)));
    return e.constant(Tensor::of<uint8_t>(DType::u8, {b.n, b.count()}, middle));
  }
  if (dtype_of(e, draft.inputs[3]) != DType::u8) {
    throw with(UnsupportedError("MatMulNBits: zero points are ", dtype_of(e, draft.inputs[3]),
                                ", which is not supported"),
               {.expected = "u8", .got = cat(dtype_of(e, draft.inputs[3]))});
  }
  const Tensor& packed = constant_at(draft, e, 3, b.n * b.zeros());
  return rows(e, packed, b.n, b.count(), b.zeros(), b.bits);
}

}  // namespace

Values expand_matmul_nbits(Draft& draft, Emitter& e) {
  refuse_inputs(draft, {{4, "g_idx"}});
  const Blocks b = blocks_of(draft);
  const ValueId a = needed_input(draft, 0);
  if (dtype_of(e, needed_input(draft, 1)) != DType::u8) {
    throw GraphError("MatMulNBits: B is ", e.fact(draft.inputs[1]).type, ", expected u8");
  }
  // The last block may reach beyond the row, so a row's numbers are no more than its bytes hold.
  const int64_t pitch = b.count() * b.bytes();
  const Tensor& packed = constant_at(draft, e, 1, b.n * pitch);
  const ValueId w = rows(e, packed, b.n, b.k, pitch, b.bits);
  const Tensor scales = constant_at(draft, e, 2, b.n * b.count()).reshaped({b.n, b.count()});
  const ValueId floats =
      e.node("DequantizeLinear", {w, e.constant(scales), zero_points(draft, e, b)},
             {{"axis", 1}, {"block_size", b.size}});
  const ValueId product = e.node("MatMul", {a, e.node("Transpose", {floats}, {{"perm", {1, 0}}})});
  return {draft.has(5) ? e.node("Add", {product, draft.inputs[5]}) : product};
}

}  // namespace planck::importer
