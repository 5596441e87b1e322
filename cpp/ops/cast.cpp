#include "ops/cast.h"

#include <algorithm>

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

// What the integer type holds nearest to the truncated value. Four bits wrap, as ONNX's own cases
// have it.
int64_t saturated(double value, DType to) {
  if (to == DType::b8) return value != 0 ? 1 : 0;
  if (value_bits(to) < 8) return saturated(value, DType::s32);  // the caller wraps
  if (to == DType::u64) {
    if (std::isnan(value) || value <= 0) return 0;
    return value >= 0x1p64 ? -1 : static_cast<int64_t>(static_cast<uint64_t>(value));
  }
  const int bits = info(to).bits;
  const bool is_unsigned = dtype_name(to)[0] == 'u';
  const double high = std::ldexp(1.0, is_unsigned ? bits : bits - 1);
  if (value >= high) return bits == 64 ? INT64_MAX : static_cast<int64_t>(high) - 1;
  return to_integer(std::max(value, is_unsigned ? 0.0 : -high));
}

// The type's own rounding, by a trip through its bytes; a wide f32 counts as rounded already.
Wide rounded(Wide wide, DType to) {
  wide.dtype = to;
  return to == DType::f64 ? wide : widen(narrow(wide));
}

bool holds_all_of(DType to, DType from) {
  if (to == from || to == DType::f64) return true;
  return to == DType::f32 && (from == DType::f16 || from == DType::bf16 || is_float8(from));
}

}  // namespace

void Cast::infer(Inference& call) const {
  if (to == 0) throw GraphError("Cast lacks its attribute to");
  set_type(call, 0, dtype_attribute(kName, "to", to), call.at(0).type.dims);
  const DType from = call.at(0).type.dtype, target = call.out[0].type.dtype;
  // From bool, symbols mean 0 or 1 and fit everywhere; to bool, anything may happen.
  if (from == target || target != DType::b8) set_contents(call, 0, contents_of(call, 0));
}

void Cast::reference(Evaluation& call) const {
  const Wide& x = call.at(0);
  const DType target = dtype_attribute(kName, "to", to);
  if (!is_float(target)) {
    if (!x.floating()) {
      call.out[0] = x;  // the caller wraps
      call.out[0].dtype = target;
      return;
    }
    call.out[0] = map(x, target, [&](auto v) { return saturated(static_cast<double>(v), target); });
    return;
  }
  Wide out = map(x, target, [](auto v) { return static_cast<double>(v); });
  if (is_float8(target) && saturate != 0) {
    const double most = largest_float8(target);
    for (double& v : out.real) v = std::isnan(v) ? v : std::clamp(v, -most, most);
  }
  call.out[0] = holds_all_of(target, x.dtype) ? std::move(out) : rounded(std::move(out), target);
}
PLANCK_OP(Cast, 21)

}  // namespace planck::ops
