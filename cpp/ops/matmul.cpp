#include "ops/matmul.h"

#include "base/checked.h"
#include "base/guard.h"
#include "ops/elementwise.h"
#include "ops/product.h"

namespace planck::ops {

namespace {

// Operands with at least two axes, and which axes the result drops again.
template <class T>
struct Operands {
  std::vector<T> a, b;
  bool row = false, column = false;  // a was, b was a vector
};

template <class T>
Operands<T> as_matrices(std::vector<T> a, std::vector<T> b) {
  if (a.empty() || b.empty())
    throw GraphError("MatMul: an input is a scalar, expected rank 1 or more");
  Operands<T> out{std::move(a), std::move(b)};
  if ((out.row = out.a.size() == 1)) out.a.insert(out.a.begin(), T(1));
  if ((out.column = out.b.size() == 1)) out.b.push_back(T(1));
  return out;
}

template <class T>
std::vector<T> with_matrix(std::vector<T> batch, const Operands<T>& o) {
  if (!o.row) batch.push_back(o.a[o.a.size() - 2]);
  if (!o.column) batch.push_back(o.b.back());
  return batch;
}

template <class T>
std::span<const T> batch_of(const std::vector<T>& dims) {
  return std::span<const T>(dims).first(dims.size() - 2);
}

void check_inner(std::string_view op, const Dim& a, const Dim& b, const Inference& call) {
  if (a.is_constant() && b.is_constant() && a != b) {
    throw GraphError(op, ": ", call.at(0).type, " and ", call.at(1).type,
                     " differ in the summed extent: ", a, " against ", b);
  }
}

// Exact modulo 2^64; the caller wraps.
void integer_product(const int64_t* a, const int64_t* b, int64_t* c, const ProductSize& s) {
  for (int64_t i = 0; i < s.m; ++i) {
    for (int64_t k = 0; k < s.k; ++k) {
      check_guard();
      for (int64_t j = 0; j < s.n; ++j) {
        int64_t& sum = c[i * s.n + j];
        sum = wrapping_add(sum, wrapping_mul(a[i * s.k + k], b[k * s.n + j]));
      }
    }
  }
}

}  // namespace

void MatMul::infer(Inference& call) const {
  need_number(kName, call, 0);
  need_same_type(kName, call, 0, 1);
  const auto o = as_matrices(call.at(0).type.dims, call.at(1).type.dims);
  check_inner(kName, o.a.back(), o.b[o.b.size() - 2], call);
  set_type(call, 0, call.at(0).type.dtype, with_matrix(broadcast(batch_of(o.a), batch_of(o.b)), o));
}

void MatMul::reference(Evaluation& call) const {
  const Wide &a = call.at(0), &b = call.at(1);
  const auto o = as_matrices(a.shape, b.shape);
  const ProductSize size{o.a[o.a.size() - 2], o.b.back(), o.a.back()};
  if (size.k != o.b[o.b.size() - 2] || a.floating() != b.floating()) {
    throw RunError("MatMul: ", shape_text(a.shape), " and ", shape_text(b.shape),
                   " do not multiply");
  }
  const Shape batch = broadcast_shapes(batch_of(o.a), batch_of(o.b));
  Wide out = make_wide(a.dtype, with_matrix(batch, o));
  if (out.count() == 0) {
    call.out[0] = std::move(out);
    return;
  }
  const auto ia = broadcast_index(batch_of(o.a), batch), ib = broadcast_index(batch_of(o.b), batch);
  for (size_t i = 0; i < ia.size(); ++i) {
    check_guard();
    const int64_t from_a = ia[i] * size.m * size.k, from_b = ib[i] * size.k * size.n;
    const int64_t to = static_cast<int64_t>(i) * size.m * size.n;
    if (out.floating()) {
      product(a.real.data() + from_a, b.real.data() + from_b, out.real.data() + to, size);
    } else {
      integer_product(a.integer.data() + from_a, b.integer.data() + from_b, out.integer.data() + to,
                      size);
    }
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(MatMul, 13)

namespace {

Wide transposed_matrix(const Wide& x, bool transpose) {
  if (x.rank() != 2) throw RunError("Gemm: ", shape_text(x.shape), " is no matrix");
  if (!transpose) return x;
  std::vector<Walk> walks = plain_walks(x.shape);
  std::swap(walks[0], walks[1]);
  return take(x, walk(walks));
}

// factor x; integers take the factor's integer part, as only 0 and 1 make sense there.
Wide scaled(const Wide& x, double factor) {
  return map(x, x.dtype, [&](auto v) {
    if constexpr (std::floating_point<decltype(v)>)
      return factor * v;
    else
      return wrapping_mul(static_cast<int64_t>(v), to_integer(factor));
  });
}

}  // namespace

void Gemm::infer(Inference& call) const {
  need_number(kName, call, 0);
  need_same_type(kName, call, 0, 1);
  need_rank(kName, call, 0, 2, 2);
  need_rank(kName, call, 1, 2, 2);
  const auto &a = call.at(0).type.dims, &b = call.at(1).type.dims;
  check_inner(kName, a[transA != 0 ? 0 : 1], b[transB != 0 ? 1 : 0], call);
  std::vector<Dim> dims = {a[transA != 0 ? 1 : 0], b[transB != 0 ? 0 : 1]};
  if (call.has(2)) {
    need_same_type(kName, call, 0, 2);
    need_rank(kName, call, 2, 0, 2);
    const auto both = broadcast(dims, call.at(2).type.dims);
    for (size_t i = 0; i < dims.size(); ++i) {
      if (both[i].is_constant() && dims[i].is_constant() && both[i] != dims[i]) {
        throw GraphError("Gemm: ", call.at(2).type, " does not broadcast to [", joined(dims, ","),
                         "]");
      }
    }
  }
  set_type(call, 0, call.at(0).type.dtype, std::move(dims));
}

void Gemm::reference(Evaluation& call) const {
  const Wide a = transposed_matrix(call.at(0), transA != 0);
  const Wide b = transposed_matrix(call.at(1), transB != 0);
  const Wide* pair[] = {&a, &b};
  Wide y[1];
  Evaluation inner{pair, y};
  MatMul().reference(inner);
  Wide out = scaled(y[0], alpha);
  if (call.has(2)) {
    broadcast_index(call.at(2).shape, out.shape);  // c may not widen the product
    out = zip(out, scaled(call.at(2), beta), out.dtype,
              [](auto p, auto q) { return wrapping_add(p, q); });
  }
  call.out[0] = std::move(out);
}
PLANCK_OP(Gemm, 13)

}  // namespace planck::ops
