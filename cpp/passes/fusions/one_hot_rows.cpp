// passes/fusions/one_hot_rows.cpp; (ids == 0, 1, .., k - 1) as numbers times [k, n]: the rows of
// the matrix that the ids name, and zeros where they name none.
#include <cmath>
#include <cstring>

#include "ops/gather.h"
#include "ops/view.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

Pat pattern() {
  const Pat ids = var("ids"), range = constant("range");
  const Pat hot = named("equal", either({op("Equal", {ids, range}), op("Equal", {range, ids})}));
  return op("MatMul", {named("hot", op("Cast", {hot})), constant("w")});
}

int64_t number_at(const Tensor& t, int64_t i) {
  return t.dtype() == DType::s64 ? t.as<int64_t>()[i] : int64_t{t.as<int32_t>()[i]};
}

// The first of consecutive integers that lie along the last axis.
std::optional<int64_t> first_of(const Tensor& t) {
  const bool counted = t.dtype() == DType::s32 || t.dtype() == DType::s64;
  if (!counted || t.rank() == 0 || t.count() == 0 || t.shape().back() != t.count()) {
    return std::nullopt;
  }
  for (int64_t i = 1; i < t.count(); ++i) {
    if (number_at(t, i) - number_at(t, 0) != i) return std::nullopt;
  }
  return number_at(t, 0);
}

// A product with zeros would turn infinities into NaN everywhere.
bool is_finite(const Tensor& t) {
  for (int64_t i = 0; i < t.count(); ++i) {
    if (!std::isfinite(t.as<float>()[i])) return false;
  }
  return true;
}

// The matrix and a row of zeros behind it.
Tensor with_zero_row(const Tensor& w) {
  const int64_t k = w.shape()[0], n = w.shape()[1];
  std::byte* to = nullptr;
  Tensor out = Tensor::make(DType::f32, {k + 1, n}, &to);
  std::memcpy(to, w.data(), static_cast<size_t>(w.bytes()));
  std::memset(to + w.bytes(), 0, static_cast<size_t>(out.bytes() - w.bytes()));
  return out;
}

Outcome rewrite(const Graph& g, const Match& m) {
  const Tensor& w = *m["w"].fact.constant;
  const Tensor& range = *m["range"].fact.constant;
  if (w.dtype() != DType::f32 || w.rank() != 2 || m["hot"].type().dtype != DType::f32) {
    return refuse("the matrix is ", m["w"].type());
  }
  const Value& ids = m["ids"];
  const std::vector<Dim>& dims = ids.type().dims;
  const auto first = first_of(range);
  if (!first || *first != 0) return refuse("the ids are not compared with 0, 1, 2, ..");
  if (dims.empty() || dims.back() != Dim(1) || static_cast<int64_t>(dims.size()) < range.rank()) {
    return refuse("the ids ", ids.type(), " do not stand alone along the last axis");
  }
  if (!is_finite(w)) return refuse("the matrix has infinities or NaN");
  if (const Value* v = m.read_outside()) return refuse(label(g, v->id), " is also read elsewhere");
  const int64_t k = w.shape()[0];
  const DType dtype = range.dtype();
  Patch patch(g, m.at());
  const ValueId alone = patch.add(ops::View{{dims.begin(), dims.end() - 1}}, {ids.id});
  const auto number = [&](int64_t v) {
    return patch.constant(filled(dtype, {}, static_cast<double>(v)));
  };
  const ValueId below = patch.add("Less", {alone, number(0)});
  const ValueId above = patch.add("Less", {number(k - 1), alone});
  const ValueId none = patch.add("Or", {below, above});
  const ValueId place = patch.add("Where", {none, number(k), alone});
  patch.replace(m.root(), patch.add(ops::Gather{0}, {patch.constant(with_zero_row(w)), place}));
  return patch;
}

}  // namespace

PLANCK_FUSION(one_hot_rows)

}  // namespace planck
