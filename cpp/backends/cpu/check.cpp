// Does a step fit the shapes of this run? Inference takes unequal symbols as equal, and a plan may
// come from anybody, so what a kernel reads and writes is checked here on numbers, for every
// family, before its arguments are filled: kernels themselves check nothing.
// Windows lie inside their buffers already (runtime/memory.cpp); here strides and extents meet
// what each kernel assumes of them.
#include <algorithm>

#include "backends/cpu/families.h"
#include "base/checked.h"
#include "kernels/embed/rows.h"
#include "kernels/layout/rows.h"
#include "kernels/matmul/rows.h"

namespace planck {
namespace {

class Checker {
 public:
  Checker(const BindContext& context, const Step& step) : c_(context), step_(step) {}

  // --- values by place; ids outside the plan's values are refused by at()
  size_t inputs() const { return step_.inputs.size(); }
  size_t outputs() const { return step_.outputs.size(); }
  bool has(size_t i) const { return i < inputs() && step_.inputs[i] >= 0; }
  const BoundValue& in(size_t i) const { return checked(has(i) ? step_.inputs[i] : -1); }
  const BoundValue& out(size_t i = 0) const {
    return checked(i < step_.outputs.size() ? step_.outputs[i] : -1);
  }
  std::string_view kernel() const { return step_.kernel; }

  void expect(bool good, const auto&... what) const {
    if (!good) throw RunError(cat(what...), " in ", c_.nodes_text(step_));
  }
  void expect_type(const BoundValue& v, DType dtype) const {
    expect(v.dtype == dtype, "a tensor of type ", v.dtype, " where the kernel takes ", dtype);
  }
  void expect_shape(const BoundValue& v, std::span<const int64_t> shape) const {
    if (std::ranges::equal(v.shape, shape)) return;
    throw with(RunError("shapes ", shape_text(v.shape), " and ", shape_text(shape), " differ in ",
                        c_.nodes_text(step_)),
               {.expected = shape_text(shape), .got = shape_text(v.shape)});
  }
  void expect_dense(const BoundValue& v) const {
    int64_t step = 1;
    for (size_t i = v.shape.size(); i-- > 0;) {
      expect(v.shape[i] == 1 || v.count() == 0 || v.strides[i] == step, "a tensor ",
             shape_text(v.shape), " is not dense");
      step *= v.shape[i];
    }
  }
  void expect_unit_columns(const BoundValue& v) const {
    expect(v.columns() <= 1 || v.count() == 0 || v.strides.back() == 1, "a tensor ",
           shape_text(v.shape), " has stepped columns");
  }
  // Rows of contiguous elements at one distance.
  void expect_rows(const BoundValue& v) const {
    expect_unit_columns(v);
    if (v.count() == 0 || v.rank() < 2) return;
    int64_t step = v.row_stride();
    for (size_t i = v.shape.size() - 1; i-- > 0;) {
      if (v.shape[i] == 1) continue;
      expect(v.strides[i] == step, "a tensor ", shape_text(v.shape), " has uneven rows");
      step *= v.shape[i];
    }
  }
  // f32 rows of n columns.
  void expect_matrix(const BoundValue& v, int64_t rows, int64_t columns) const {
    expect_type(v, DType::f32);
    expect_rows(v);
    if (v.rows() == rows && v.columns() == columns) return;
    throw with(RunError(shape_text(v.shape), " is not ", rows, " rows of ", columns, " in ",
                        c_.nodes_text(step_)),
               {.expected = cat('[', rows, ',', columns, ']'), .got = shape_text(v.shape)});
  }
  // One f32 for each column; an absent one is fine.
  void expect_row(size_t i, int64_t columns) const {
    if (has(i)) expect_matrix(in(i), 1, columns);
  }
  void expect_broadcast(size_t i, std::span<const int64_t> shape) const {
    if (has(i)) c_.expect_broadcast(step_, step_.inputs[i], shape);
  }

 private:
  const BoundValue& checked(int32_t id) const {
    expect(id >= 0 && static_cast<size_t>(id) < c_.values.size(), "a tensor is missing");
    return c_.at(id);
  }
  const BindContext& c_;
  const Step& step_;
};

void check(const Checker& c, const LinearParams& p) {
  const int64_t rows = c.in(0).rows();
  c.expect(p.n >= 0 && p.k >= 0, "a linear layer of ", p.k, " to ", p.n, " columns");
  if (c.in(0).columns() != p.k) {
    throw with(RunError(shape_text(c.in(0).shape), " and the weight [", p.k, ',', p.n,
                        "] differ in the summed extent"),
               {.expected = cat(p.k), .got = cat(c.in(0).columns())});
  }
  c.expect_matrix(c.in(0), rows, p.k);
  c.expect_matrix(c.out(), rows, p.n);
  c.expect_type(c.in(1), DType::f32);
  c.expect_dense(c.in(1));
  c.expect(c.in(1).count() == packed_floats(matmul_row(c.kernel()), p.n, p.k),
           "packed weights of another size");
  c.expect_row(2, p.n);
  if (c.has(3)) c.expect_matrix(c.in(3), rows, p.n);
  c.expect(p.then.operands.size() <= (c.has(3) ? 2U : 1U), "an epilogue of other operands");
}

void check(const Checker& c, const MatmulParams&) {
  const BoundValue &a = c.in(0), &b = c.in(1), &out = c.out();
  c.expect(a.rank() >= 2 && b.rank() >= 2 && out.rank() == std::max(a.rank(), b.rank()),
           "a product of ranks ", a.rank(), " and ", b.rank());
  const auto split = [](const BoundValue& v) { return std::span(v.shape).last(2); };
  if (split(a)[1] != split(b)[0]) {
    throw with(
        RunError(shape_text(a.shape), " and ", shape_text(b.shape), " differ in the summed extent"),
        {.expected = cat(split(a)[1]), .got = cat(split(b)[0])});
  }
  Shape left(out.shape), right(out.shape);  // what each operand has to broadcast to
  const size_t rank = out.shape.size();
  left[rank - 1] = right[rank - 2] = split(a)[1];
  c.expect_broadcast(0, left);
  c.expect_broadcast(1, right);
  c.expect(split(a)[0] == split(out)[0] && split(b)[1] == split(out)[1], "a product ",
           shape_text(out.shape), " of ", shape_text(a.shape), " and ", shape_text(b.shape));
  for (const BoundValue* v : {&a, &b, &out}) c.expect_type(*v, DType::f32);
  c.expect_unit_columns(a);
  c.expect_unit_columns(out);
}

void check(const Checker& c, const AttentionParams& p) {
  const BoundValue &q = c.in(0), &k = c.in(1), &v = c.in(2);
  c.expect(p.heads >= 1, p.heads, " heads");
  struct Heads {
    int64_t length, size;
  };
  const auto heads = [&](const BoundValue& x) -> Heads {
    c.expect_type(x, DType::f32);
    c.expect_unit_columns(x);
    const bool apart = x.rank() == 4 && x.shape[1] == p.heads;
    c.expect(apart || (x.rank() == 3 && x.shape[2] % p.heads == 0), shape_text(x.shape),
             " does not hold ", p.heads, " heads");
    c.expect(x.shape[0] == q.shape[0], "batches ", x.shape[0], " and ", q.shape[0], " differ");
    return apart ? Heads{x.shape[2], x.shape[3]} : Heads{x.shape[1], x.shape[2] / p.heads};
  };
  const Heads of_q = heads(q), of_k = heads(k), of_v = heads(v), of_out = heads(c.out());
  c.expect(of_k.size == of_q.size && of_v.length == of_k.length && of_out.length == of_q.length &&
               of_out.size == of_v.size,
           "keys ", shape_text(k.shape), ", values ", shape_text(v.shape), " and queries ",
           shape_text(q.shape), " do not agree");
  if (c.has(3)) c.expect_type(c.in(3), DType::f32);
}

void check(const Checker& c, const NormParams&) {
  const BoundValue& x = c.in(0);
  c.expect_matrix(x, x.rows(), x.columns());
  if (c.has(1)) c.expect_matrix(c.in(1), x.rows(), x.columns());
  c.expect(c.has(2), "a norm without a gain");
  c.expect_row(2, x.columns());
  c.expect_row(3, x.columns());
  c.expect_matrix(c.out(), x.rows(), x.columns());
  if (c.outputs() > 1) c.expect_matrix(c.out(1), x.rows(), x.columns());
}

void check(const Checker& c, const SoftmaxParams&) {
  c.expect_matrix(c.in(0), c.in(0).rows(), c.in(0).columns());
  c.expect_matrix(c.out(), c.in(0).rows(), c.in(0).columns());
}

void check(const Checker& c, const EltwiseParams& p) {
  c.expect_type(c.out(), DType::f32);
  c.expect_dense(c.out());
  c.expect(c.inputs() == p.program.operands.size(), "a program of other operands");
  for (size_t i = 0; i < c.inputs(); ++i) {
    c.expect_type(c.in(i), DType::f32);
    c.expect_dense(c.in(i));
    c.expect_broadcast(i, c.out().shape);
  }
}

void check(const Checker& c, const EmbedParams& p) {
  const BoundValue& out = c.out();
  c.expect(p.tables >= 1 && p.tables <= kEmbedTables, p.tables, " tables");
  c.expect(out.rank() >= 1 && out.rank() <= 3, "an embedding of rank ", out.rank());
  c.expect_matrix(out, out.rows(), out.columns());
  for (size_t i = 0; i < 2 * static_cast<size_t>(p.tables); i += 2) {
    const BoundValue &table = c.in(i), &ids = c.in(i + 1);
    c.expect(table.rank() == 2, "a table of rank ", table.rank());
    c.expect_matrix(table, table.rows(), out.columns());
    c.expect(ids.dtype == DType::s64 || ids.dtype == DType::s32, "ids of type ", ids.dtype);
    c.expect(ids.rank() <= 2, "ids of rank ", ids.rank());
    c.expect_broadcast(i + 1, std::span(out.shape).first(out.shape.size() - 1));
  }
  const auto after = static_cast<size_t>(2 * p.tables);
  c.expect(!p.norm || c.has(after), "a norm without a gain");
  c.expect_row(after, out.columns());
  c.expect_row(after + 1, out.columns());
}

void check(const Checker& c, const CopyParams&) {
  const BoundValue &x = c.in(0), &out = c.out();
  c.expect_shape(out, x.shape);
  if (x.dtype == out.dtype) return;
  c.expect(conversion_of(x.dtype, out.dtype).has_value(), "no conversion from ", x.dtype, " to ",
           out.dtype);
  c.expect_dense(x);
  c.expect_dense(out);
}

void check(const Checker& c, const ReduceParams& p) {
  const BoundValue &x = c.in(0), &out = c.out();
  c.expect_type(x, DType::f32);
  c.expect_type(out, DType::f32);
  c.expect_dense(x);
  c.expect_dense(out);
  c.expect(!p.axes.empty() && p.axes.front() >= 0 && p.axes.back() < x.rank(), "axes of a tensor ",
           shape_text(x.shape));
  for (size_t i = 1; i < p.axes.size(); ++i) {
    c.expect(p.axes[i] == p.axes[i - 1] + 1, "axes that are no neighbours");
  }
  const auto first = static_cast<size_t>(p.axes.front()), end = first + p.axes.size();
  const int64_t outer = checked_count(std::span(x.shape).first(first));
  const int64_t inner = checked_count(std::span(x.shape).subspan(end));
  c.expect(out.count() == checked_mul(outer, inner), "a reduction of ", shape_text(x.shape), " to ",
           shape_text(out.shape));
}

void check(const Checker& c, const ReferenceParams&) {
  for (size_t i = 0; i < c.inputs(); ++i) {
    if (c.has(i)) c.expect_dense(c.in(i));
  }
}

}  // namespace

void check_step(const BindContext& context, const Step& step) {
  const Checker checker(context, step);
  std::visit([&](const auto& params) { check(checker, params); }, step.params);
}

}  // namespace planck
