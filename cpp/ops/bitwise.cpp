#include "ops/bitwise.h"

#include <algorithm>

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

void infer_integers(std::string_view op, Inference& call) {
  need_integer(op, call, 0);
  std::vector<Dim> dims = call.at(0).type.dims;
  if (call.in.size() > 1) {
    need_same_type(op, call, 0, 1);
    dims = broadcast(dims, call.at(1).type.dims);
  }
  set_type(call, 0, call.at(0).type.dtype, std::move(dims));
}

void combine(Evaluation& call, auto&& f) {
  call.out[0] = zip(call.at(0), call.at(1), call.at(0).dtype, f);
}

}  // namespace

#define PLANCK_BITWISE(Op, formula)                                        \
  void Op::infer(Inference& call) const { infer_integers(kName, call); }   \
  void Op::reference(Evaluation& call) const {                             \
    combine(call, [](auto p, auto q) {                                     \
      const auto a = static_cast<int64_t>(p), b = static_cast<int64_t>(q); \
      return formula;                                                      \
    });                                                                    \
  }                                                                        \
  PLANCK_OP(Op, 18)
PLANCK_BITWISE(BitwiseAnd, a& b)
PLANCK_BITWISE(BitwiseOr, a | b)
PLANCK_BITWISE(BitwiseXor, a ^ b)
#undef PLANCK_BITWISE

void BitwiseNot::infer(Inference& call) const { infer_integers(kName, call); }
void BitwiseNot::reference(Evaluation& call) const {
  call.out[0] = map(call.at(0), call.at(0).dtype, [](auto x) { return ~static_cast<int64_t>(x); });
}
PLANCK_OP(BitwiseNot, 18)

void BitShift::infer(Inference& call) const {
  if (direction != "LEFT" && direction != "RIGHT") {
    throw GraphError("BitShift: direction is '", direction, "', expected LEFT or RIGHT");
  }
  infer_integers(kName, call);
}

void BitShift::reference(Evaluation& call) const {
  const DType dtype = call.at(0).dtype;
  const auto bits = static_cast<uint64_t>(info(dtype).bits);
  const bool left = direction == "LEFT", is_signed = dtype_name(dtype)[0] == 's';
  combine(call, [&](auto p, auto q) {
    const auto x = static_cast<int64_t>(p);
    const auto by = static_cast<uint64_t>(q);  // a negative number is a large one
    if (left) return by >= bits ? 0 : static_cast<int64_t>(static_cast<uint64_t>(x) << by);
    if (is_signed) return x >> std::min(by, bits - 1);
    return by >= bits ? 0 : static_cast<int64_t>(static_cast<uint64_t>(x) >> by);
  });
}
PLANCK_OP(BitShift, 11)

void BitCast::infer(Inference& call) const {
  const TensorType& x = call.at(0).type;
  const DType type = dtype_attribute(kName, "to", to);
  if (info(type).bits != info(x.dtype).bits) {
    throw GraphError("BitCast: ", x, " and ", type, " differ in size");
  }
  set_type(call, 0, type, x.dims);
}

void BitCast::reference(Evaluation& call) const {
  const Tensor x = narrow(call.at(0));
  call.out[0] = widen(Tensor(dtype_attribute(kName, "to", to), x.shape(), x.data(), nullptr));
}
PLANCK_OP(BitCast, 26)

}  // namespace planck::ops
