#include "ops/quantize.h"

#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/matmul.h"

namespace planck::ops {

IntegerEnds integer_ends(DType dtype) {
  const int bits = value_bits(dtype);
  if (bits > 32) throw UnsupportedError("quantized values of type ", dtype, " are not supported");
  const bool is_unsigned = dtype_name(dtype)[0] == 'u';
  const int64_t half = int64_t{1} << (bits - 1);
  return is_unsigned ? IntegerEnds{0, 2 * half - 1} : IntegerEnds{-half, half - 1};
}

namespace {

// The element of scale or zero point that belongs to each element of x.
std::vector<int64_t> parameter_index(std::string_view op, const Wide& x, const Wide& p,
                                     int64_t axis, int64_t block) {
  if (p.count() == 1 && block == 0) return std::vector<int64_t>(static_cast<size_t>(x.count()), 0);
  const auto at = static_cast<size_t>(checked_axis(axis, x.rank()));
  const int64_t extent = x.shape[at], size = std::max<int64_t>(block, 1);
  Shape expected{extent};
  if (block > 0) {
    expected = x.shape;
    expected[at] = extent / size + (extent % size != 0 ? 1 : 0);
  }
  if (p.shape != expected) {
    throw RunError(op, ": scales ", shape_text(p.shape), " for ", shape_text(x.shape),
                   " along axis ", at, ", expected ", shape_text(expected));
  }
  std::vector<Walk> walks = plain_walks(x.shape);
  const auto strides = row_major_strides(p.shape);
  for (size_t d = 0; d < walks.size(); ++d) {
    walks[d].stride = block > 0 ? strides[d] : d == at ? 1 : 0;
    if (d != at) continue;
    for (int64_t& place : walks[d].positions) place /= size;
  }
  return walk(walks).index;
}

// One for each scale.
void check_zero_points(std::string_view op, const Wide& zero, const Wide& scale) {
  if (zero.count() == scale.count()) return;
  throw RunError(op, ": ", zero.count(), " zero points for ", scale.count(), " scales");
}

int64_t quantized(double value, int64_t zero, const IntegerEnds& ends) {
  if (std::isnan(value)) return ends.low;  // as ONNX Runtime has it
  const double shifted = std::nearbyint(value) + static_cast<double>(zero);
  return static_cast<int64_t>(
      std::clamp(shifted, static_cast<double>(ends.low), static_cast<double>(ends.high)));
}

// One scale, one for each place along the axis, or one for each block along it. Extents that the
// build does not know are left to the run.
void need_layout(std::string_view op, const Inference& call, int64_t axis, int64_t block) {
  const TensorType &x = call.at(0).type, &scale = call.at(1).type;
  const auto count = product(scale.dims).known();
  if (block == 0 && (!count || *count == 1)) return;
  const auto at = static_cast<size_t>(checked_axis(axis, x.rank()));
  std::vector<Dim> expected{x.dims[at]};
  if (block > 0) {
    expected = x.dims;
    expected[at] = floordiv(x.dims[at] + Dim(block - 1), Dim(block));
  }
  bool fits = scale.dims.size() == expected.size();
  for (size_t i = 0; fits && i < expected.size(); ++i) {
    const auto have = scale.dims[i].known(), want = expected[i].known();
    fits = !have || !want || *have == *want;
  }
  if (fits) return;
  const std::string want = cat('[', joined(expected, ","), ']');
  throw with(GraphError(op, ": scales [", joined(scale.dims, ","), "] for ", x, " along axis ", at,
                        ", expected ", want),
             {.expected = want, .got = cat('[', joined(scale.dims, ","), ']')});
}

// One for each scale; DequantizeLinear takes one for all as well.
void need_zero_points(std::string_view op, const Inference& call, bool one_for_all) {
  if (!call.has(2)) return;
  const auto zeros = product(call.at(2).type.dims).known();
  const auto scales = product(call.at(1).type.dims).known();
  if (!zeros || !scales || *zeros == *scales || (one_for_all && *zeros == 1)) return;
  throw with(GraphError(op, ": ", *zeros, " zero points for ", *scales, " scales"),
             {.expected = cat(*scales), .got = cat(*zeros)});
}

// Constant scales have to be what a scale can be; those that a run computes are taken as they are.
void need_scales(std::string_view op, const Inference& call, int64_t axis, int64_t block) {
  need_float(op, call, 1);
  need_rank(op, call, 1, 0, call.at(0).type.rank());
  if (block < 0) throw GraphError(op, ": a block of ", block, " elements");
  need_layout(op, call, axis, block);
  if (call.at(1).constant == nullptr) return;
  for (const double s : widen(*call.at(1).constant).real) {
    if (std::isfinite(s) && s > 0) continue;
    throw with(GraphError(op, ": a scale is ", s), {.expected = "above 0, finite", .got = cat(s)});
  }
}

}  // namespace

void QuantizeLinear::infer(Inference& call) const {
  need_number(kName, call, 0);
  need_scales(kName, call, axis, block_size);
  DType type = DType::u8;
  if (output_dtype != 0) type = dtype_attribute(kName, "output_dtype", output_dtype);
  need_zero_points(kName, call, false);
  if (call.has(2)) type = call.at(2).type.dtype;
  if (!is_integer(type) && !is_float8(type)) {
    throw UnsupportedError("QuantizeLinear to ", type, " is not supported");
  }
  if (is_integer(type)) integer_ends(type);
  set_type(call, 0, type, call.at(0).type.dims);
}

namespace {

// y = saturate(x / scale + zero point); without saturation what is too large becomes infinite, or
// NaN in f8e4m3.
void to_float8(const QuantizeLinear& op, Evaluation& call, DType type,
               std::span<const int64_t> index) {
  const Wide &x = call.at(0), &scale = call.at(1);
  Wide out = make_wide(type, x.shape);
  const double most = largest_float8(type);
  for (size_t i = 0; i < index.size(); ++i) {
    check_guard_at(i);
    const double zero = call.has(2) ? call.at(2).at(index[i]) : 0;
    const double y = x.at(static_cast<int64_t>(i)) / scale.at(index[i]) + zero;
    out.real[i] = op.saturate != 0 && !std::isnan(y) ? std::clamp(y, -most, most) : y;
  }
  call.out[0] = widen(narrow(out));
}

}  // namespace

void QuantizeLinear::reference(Evaluation& call) const {
  const Wide &x = call.at(0), &scale = call.at(1);
  DType type = output_dtype != 0 ? dtype_attribute(kName, "output_dtype", output_dtype) : DType::u8;
  if (call.has(2)) type = call.at(2).dtype;
  const auto index = parameter_index(kName, x, scale, axis, block_size);
  if (call.has(2)) check_zero_points(kName, call.at(2), scale);
  if (is_float8(type)) return to_float8(*this, call, type, index);
  const IntegerEnds ends = integer_ends(type);
  // The division is rounded to the scale's type, as quantization runs in it.
  Wide ratio = make_wide(scale.dtype, x.shape);
  for (size_t i = 0; i < index.size(); ++i) {
    check_guard_at(i);
    ratio.real[i] = x.at(static_cast<int64_t>(i)) / scale.at(index[i]);
  }
  if (scale.dtype != DType::f64) ratio = widen(narrow(ratio));
  Wide out = make_wide(type, x.shape);
  for (size_t i = 0; i < index.size(); ++i) {
    check_guard_at(i);
    const int64_t zero = call.has(2) ? integers(call, 2).at(static_cast<size_t>(index[i])) : 0;
    out.integer[i] = quantized(ratio.real[i], zero, ends);
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(QuantizeLinear, 25)

void DequantizeLinear::infer(Inference& call) const {
  const DType from = call.at(0).type.dtype;
  if (!is_float8(from) && (!is_integer(from) || info(from).bits > 32)) {
    throw with(GraphError("DequantizeLinear reads ", call.at(0).type, ", nothing quantized"),
               {.expected = "integers of 32 bits at most, float8", .got = cat(from)});
  }
  need_scales(kName, call, axis, block_size);
  if (call.has(2)) need_same_type(kName, call, 0, 2);
  need_zero_points(kName, call, true);
  const DType type = output_dtype != 0 ? dtype_attribute(kName, "output_dtype", output_dtype)
                                       : call.at(1).type.dtype;
  if (!is_float(type)) throw GraphError("DequantizeLinear to ", type);
  set_type(call, 0, type, call.at(0).type.dims);
}

void DequantizeLinear::reference(Evaluation& call) const {
  const Wide &q = call.at(0), &scale = call.at(1);
  const auto index = parameter_index(kName, q, scale, axis, block_size);
  if (call.has(2) && call.at(2).count() != 1) check_zero_points(kName, call.at(2), scale);
  Wide out = make_wide(
      output_dtype != 0 ? dtype_attribute(kName, "output_dtype", output_dtype) : scale.dtype,
      q.shape);
  for (size_t i = 0; i < index.size(); ++i) {
    check_guard_at(i);
    const double zero = call.has(2) ? call.at(2).at(call.at(2).count() == 1 ? 0 : index[i]) : 0;
    out.real[i] = (q.at(static_cast<int64_t>(i)) - zero) * scale.at(index[i]);
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(DequantizeLinear, 25)

void FlipSign::infer(Inference& call) const {
  const TensorType& x = call.at(0).type;
  if (x.dtype != DType::s8 && x.dtype != DType::u8) {
    throw GraphError("FlipSign: x is ", x, ", expected s8 or u8");
  }
  set_type(call, 0, x.dtype == DType::s8 ? DType::u8 : DType::s8, x.dims);
}

void FlipSign::reference(Evaluation& call) const {
  const bool is_signed = call.at(0).dtype == DType::s8;
  call.out[0] = map(call.at(0), is_signed ? DType::u8 : DType::s8,
                    [&](auto v) { return is_signed ? v + 128 : v - 128; });
}
PLANCK_OWN_OP(FlipSign)

void DynamicQuantizeLinear::infer(Inference& call) const {
  need_float(kName, call, 0);
  const TensorType x = call.at(0).type;
  set_type(call, 0, DType::u8, x.dims);
  if (call.out.size() > 1) set_type(call, 1, x.dtype, {});
  if (call.out.size() > 2) set_type(call, 2, DType::u8, {});
}

void DynamicQuantizeLinear::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  double low = 0, high = 0;
  for (const double v : x.real) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  // In f32, as every implementation has it: scale and zero point decide all other bits.
  const float scale = static_cast<float>(high - low) / 255.0f;
  const IntegerEnds ends = integer_ends(DType::u8);
  const int64_t zero =
      scale == 0 ? 0 : quantized(static_cast<double>(static_cast<float>(-low) / scale), 0, ends);
  Wide y = make_wide(DType::u8, x.shape);
  for (size_t i = 0; i < x.real.size(); ++i) {
    const float ratio = scale == 0 ? 0 : static_cast<float>(x.real[i]) / scale;
    y.integer[i] = quantized(static_cast<double>(ratio), zero, ends);
  }
  call.out[0] = std::move(y);
  call.out[1] = make_wide(x.dtype, {});
  call.out[1].real[0] = static_cast<double>(scale);
  call.out[2] = make_wide(DType::u8, {});
  call.out[2].integer[0] = zero;
}
PLANCK_OP(DynamicQuantizeLinear, 11)

namespace {

// Zero points along the rows of a ([M]) or the columns of b ([N]), or already of its rank.
Wide less_zero(const Wide& x, const Wide* zero, bool rows) {
  Wide out = x;
  out.dtype = DType::s64;
  if (zero == nullptr) return out;
  Wide z = *zero;
  z.dtype = DType::s64;
  if (rows && z.rank() == 1 && z.count() > 1) z.shape.push_back(1);
  out = zip(out, z, DType::s64, [](auto a, auto b) { return wrapping_sub(a, b); });
  if (out.shape != x.shape)
    throw RunError("zero points ", shape_text(zero->shape), " for ", shape_text(x.shape));
  return out;
}

Wide integer_product(const Wide& a, const Wide& b) {
  const Wide* pair[] = {&a, &b};
  Wide y[1];
  y[0].dtype = DType::s64;
  Evaluation inner{pair, y};
  MatMul().reference(inner);
  return std::move(y[0]);
}

void infer_product(std::string_view op, Inference& call, size_t b, DType type) {
  for (const size_t i : {size_t{0}, b}) {
    need_integer(op, call, i);
    if (size_of(call.at(i).type.dtype) > 1)
      throw GraphError(op, ": input ", i, " has wide integers");
  }
  Fact wide_a = call.at(0), wide_b = call.at(b), product;
  wide_a = {{DType::s64, wide_a.type.dims}};
  wide_b = {{DType::s64, wide_b.type.dims}};
  const Fact* pair[] = {&wide_a, &wide_b};
  Inference inner{pair, std::span(&product, 1), call.fresh};
  MatMul().infer(inner);
  set_type(call, 0, type, product.type.dims);
}

}  // namespace

void MatMulInteger::infer(Inference& call) const {
  if (call.has(2)) need_same_type(kName, call, 0, 2);
  if (call.has(3)) need_same_type(kName, call, 1, 3);
  infer_product(kName, call, 1, DType::s32);
}
void MatMulInteger::reference(Evaluation& call) const {
  const auto zero = [&](size_t i) { return call.has(i) ? &call.at(i) : nullptr; };
  call.out[0] =
      integer_product(less_zero(call.at(0), zero(2), true), less_zero(call.at(1), zero(3), false));
  call.out[0].dtype = DType::s32;
}
PLANCK_OP(MatMulInteger, 10)

void QLinearMatMul::infer(Inference& call) const {
  for (const size_t i : {1, 4, 6}) need_float(kName, call, i);
  need_same_type(kName, call, 0, 2);
  need_same_type(kName, call, 3, 5);
  need_integer(kName, call, 7);
  infer_product(kName, call, 3, call.at(7).type.dtype);
}
void QLinearMatMul::reference(Evaluation& call) const {
  const Wide product = integer_product(less_zero(call.at(0), &call.at(2), true),
                                       less_zero(call.at(3), &call.at(5), false));
  const auto one = [&](size_t i) {
    if (call.at(i).count() != 1) throw UnsupportedError("QLinearMatMul with several scales");
    return call.at(i).at(0);
  };
  const double factor = one(1) * one(4) / one(6);
  const IntegerEnds ends = integer_ends(call.at(7).dtype);
  const auto zero = static_cast<int64_t>(one(7));
  call.out[0] = map(product, call.at(7).dtype,
                    [&](auto v) { return quantized(static_cast<double>(v) * factor, zero, ends); });
}
PLANCK_OP(QLinearMatMul, 21)

}  // namespace planck::ops
