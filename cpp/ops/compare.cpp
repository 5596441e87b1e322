#include "ops/compare.h"

#include <cmath>
#include <optional>

#include "ops/elementwise.h"

namespace planck::ops {

namespace {

void infer_bool(Inference& call) {
  set_type(call, 0, DType::b8, broadcast(call.at(0).type.dims, call.at(1).type.dims));
}

void infer_logic(std::string_view op, Inference& call) {
  need_bool(op, call, 0);
  need_bool(op, call, 1);
  infer_bool(call);
}

void infer_order(std::string_view op, Inference& call) {
  need_number(op, call, 0);
  need_same_type(op, call, 0, 1);
  infer_bool(call);
}

// 1, 0, or nothing where it depends on the symbols.
std::optional<Dim> is_equal(const Dim& a, const Dim& b) {
  if (a == b) return Dim(1);
  const bool apart = at_least(a - b, 1) || at_least(b - a, 1);
  return apart ? std::optional(Dim(0)) : std::nullopt;
}
std::optional<Dim> is_less(const Dim& a, const Dim& b) {
  if (at_least(b - a, 1)) return Dim(1);
  return at_least(a - b, 0) ? std::optional(Dim(0)) : std::nullopt;
}
std::optional<Dim> negated(std::optional<Dim> decided) {
  return decided ? std::optional(Dim(1) - *decided) : std::nullopt;
}

void compare(Evaluation& call, auto&& f) {
  call.out[0] = zip(call.at(0), call.at(1), DType::b8, f);
}

}  // namespace

#define PLANCK_COMPARE(Op, version, infer_types, formula, decided)                                 \
  void Op::infer(Inference& call) const {                                                          \
    infer_types(kName, call);                                                                      \
    set_contents(call, 0, zip_contents(call, [](const Dim& a, const Dim& b) { return decided; })); \
  }                                                                                                \
  void Op::reference(Evaluation& call) const {                                                     \
    compare(call, [](auto a, auto b) { return formula; });                                         \
  }                                                                                                \
  PLANCK_OP(Op, version)

PLANCK_COMPARE(And, 7, infer_logic, a != 0 && b != 0, std::optional(a* b))
PLANCK_COMPARE(Or, 7, infer_logic, a != 0 || b != 0, std::optional(larger(a, b)))
PLANCK_COMPARE(Xor, 7, infer_logic, (a != 0) != (b != 0), negated(is_equal(a, b)))
PLANCK_COMPARE(Less, 13, infer_order, a < b, is_less(a, b))
PLANCK_COMPARE(LessOrEqual, 16, infer_order, a <= b, negated(is_less(b, a)))
PLANCK_COMPARE(Greater, 13, infer_order, a > b, is_less(b, a))
PLANCK_COMPARE(GreaterOrEqual, 16, infer_order, a >= b, negated(is_less(a, b)))
#undef PLANCK_COMPARE

void Equal::infer(Inference& call) const {
  need_same_type(kName, call, 0, 1);  // bools may be compared too
  infer_bool(call);
  set_contents(call, 0, zip_contents(call, is_equal));
}
void Equal::reference(Evaluation& call) const {
  compare(call, [](auto a, auto b) { return a == b; });
}
PLANCK_OP(Equal, 19)

void Not::infer(Inference& call) const {
  need_bool(kName, call, 0);
  set_type(call, 0, DType::b8, call.at(0).type.dims);
  Contents contents = contents_of(call, 0);
  if (contents) {
    for (Dim& d : *contents) d = Dim(1) - d;
  }
  set_contents(call, 0, std::move(contents));
}
void Not::reference(Evaluation& call) const {
  call.out[0] = map(call.at(0), DType::b8, [](auto x) { return x == 0; });
}
PLANCK_OP(Not, 1)

void IsNaN::infer(Inference& call) const {
  need_float(kName, call, 0);
  set_type(call, 0, DType::b8, call.at(0).type.dims);
}
void IsNaN::reference(Evaluation& call) const {
  call.out[0] = map(call.at(0), DType::b8, [](auto x) { return x != x; });
}
PLANCK_OP(IsNaN, 20)

void IsInf::infer(Inference& call) const {
  need_float(kName, call, 0);
  set_type(call, 0, DType::b8, call.at(0).type.dims);
}
void IsInf::reference(Evaluation& call) const {
  call.out[0] = map(call.at(0), DType::b8, [&](auto number) {
    const auto x = static_cast<double>(number);
    return std::isinf(x) && (x < 0 ? detect_negative : detect_positive) != 0;
  });
}
PLANCK_OP(IsInf, 20)

namespace {

// Element i of the result is element index[1 or 2][i] of the branch that the condition names.
std::vector<int64_t> index_for(const Shape& from, const Shape& shape) {
  check_size(shape);
  return broadcast_index(from, shape);
}

Contents chosen(const Inference& call) {
  const auto shape = known_shape(call.out[0].type.dims);
  const auto condition = numbers_of(call, 0);
  const Contents yes = contents_of(call, 1), no = contents_of(call, 2);
  const auto sc = known_shape(call.at(0).type.dims), sy = known_shape(call.at(1).type.dims),
             sn = known_shape(call.at(2).type.dims);
  if (!shape || !condition || !yes || !no || !sc || !sy || !sn) return std::nullopt;
  int64_t count = 1;
  for (const int64_t d : *shape) count *= d;
  if (count > kMostContents) return std::nullopt;
  const auto ic = index_for(*sc, *shape), iy = index_for(*sy, *shape), in = index_for(*sn, *shape);
  std::vector<Dim> out;
  for (size_t i = 0; i < ic.size(); ++i) {
    const bool first = (*condition)[static_cast<size_t>(ic[i])] != 0;
    out.push_back(first ? (*yes)[static_cast<size_t>(iy[i])] : (*no)[static_cast<size_t>(in[i])]);
  }
  return out;
}

}  // namespace

void Where::infer(Inference& call) const {
  need_bool(kName, call, 0);
  need_same_type(kName, call, 1, 2);
  set_type(call, 0, call.at(1).type.dtype,
           broadcast(broadcast(call.at(0).type.dims, call.at(1).type.dims), call.at(2).type.dims));
  if (!is_float(call.at(1).type.dtype)) {
    set_contents(call, 0, contents_if([&] { return chosen(call); }));
  }
}

void Where::reference(Evaluation& call) const {
  const Wide &condition = call.at(0), &yes = call.at(1), &no = call.at(2);
  const Shape shape = broadcast_shapes(broadcast_shapes(condition.shape, yes.shape), no.shape);
  Wide out = make_wide(yes.dtype, shape);
  const auto ic = index_for(condition.shape, shape), iy = index_for(yes.shape, shape),
             in = index_for(no.shape, shape);
  for (size_t i = 0; i < ic.size(); ++i) {
    check_guard_at(i);
    const bool first = integers(call, 0)[static_cast<size_t>(ic[i])] != 0;
    const Wide& from = first ? yes : no;
    const auto at = static_cast<size_t>(first ? iy[i] : in[i]);
    if (out.floating()) {
      out.real[i] = from.real.at(at);
    } else {
      out.integer[i] = from.integer.at(at);
    }
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(Where, 16)

}  // namespace planck::ops
