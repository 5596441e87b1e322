#include "backends/contract.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/eltwise/rows.h"
#include "kernels/layout/rows.h"
#include "kernels/matmul/rows.h"
#include "plan/view.h"

namespace planck {
namespace {

class Contract {
 public:
  Contract(const BindContext& context, const Step& step) : c_(context), step_(step) {}

  void operator()(const LinearParams& p) const {
    const BoundValue &a = in(0), &y = out(0);
    f32_before(p.then);
    if (has(2)) expect(dense(in(2)) && in(2).count() == p.n, "the bias ", in(2), " is not ", p.n);
    if (p.then.operands.size() > 1) return reads_operands(p, a, y);
    rows(a);
    // In lines of rows, if need be, which are further apart: then of floats, without a residual.
    const bool lines = y.rank() > 2 && unit_columns(y) && y.dtype == DType::f32 && !has(3);
    expect(y.count() == 0 || has_rows(y) || lines, y, " does not lie in rows");
    if (y.columns() != p.n) {
      grouped(p);
    } else {
      expect(a.columns() == p.k && a.rows() == y.rows(), "the product of ", a, " and [", p.k, ',',
             p.n, "] is not ", y);
    }
    if (has(3)) same_rows(3, y);
  }
  // A product whose program reads operands: the rows of all lie along the same axes, which are
  // those of a batch. Bytes have none.
  void reads_operands(const LinearParams& p, const BoundValue& a, const BoundValue& y) const {
    expect(a.columns() == p.k && y.columns() == p.n && a.rows() == y.rows(), "the product of ", a,
           " and [", p.k, ',', p.n, "] is not ", y);
    const auto leads = [](const BoundValue& v) {
      return Shape(v.shape.begin(), v.shape.end() - (v.shape.empty() ? 0 : 1));
    };
    expect(leads(a) == leads(y), "the rows of ", a, " and ", y, " differ");
    expect(y.rank() > 0 && y.rank() <= kMaxMatmulBatch + 2, y, " has no or too many axes");
    expect(unit_columns(a) && unit_columns(y), "the columns of an operand are not neighbours");
    for (size_t i = 3; i < step_.inputs.size(); ++i) {
      c_.expect_broadcast(step_, step_.inputs[i], y.shape);
      expect(unit_columns(in(i)), "the columns of ", in(i), " are not neighbours");
      if (y.dtype != DType::f32) same_rows(i, y);
    }
    if (y.dtype != DType::f32) rows(a), rows(y);
  }

  // Columns in groups that lie apart, on an axis before the last one: parts of one panel, or whole
  // panels each.
  void grouped(const LinearParams& p) const {
    constexpr int64_t kMost = 8;
    const BoundValue &a = in(0), &y = out(0);
    const size_t groups = y.shape.size() - 2;
    const bool panels = p.n <= kMost || groups_panels(matmul_row(step_.kernel), y.columns());
    expect(y.rank() > 2 && unit_columns(y) && y.dtype == DType::f32 && !has(3) && panels &&
               y.columns() > 0 && checked_mul(y.shape[groups], y.columns()) == p.n,
           y, " does not have ", p.n, " columns");
    expect(a.columns() == p.k && a.rows() == checked_count(std::span(y.shape).first(groups)),
           "the product of ", a, " and [", p.k, ',', p.n, "] is not ", y);
  }

  void operator()(const ConvParams& p) const {
    f32_before(p.then);
    p.repeats.empty() ? convolution(p, p.windows.size()) : joined(p);
  }
  // Parts of the same picture, whose channels are all of them.
  void joined(const ConvParams& p) const {
    const BoundValue& y = out(0);
    const auto extent = [&](size_t part, size_t axis) {
      return checked_mul(in(ConvParams::part_input(part)).shape[axis], p.repeats[part]);
    };
    int64_t channels = 0;
    for (size_t i = 0; i < p.repeats.size(); ++i) {
      const BoundValue& x = in(ConvParams::part_input(i));
      pictures(x, y, 2);
      expect(extent(i, 1) == extent(0, 1) && extent(i, 2) == extent(0, 2), x, " repeated ",
             p.repeats[i], " times does not lie beside ", in(0), " repeated ", p.repeats[0]);
      channels = checked_add(channels, x.columns());
    }
    expect(channels == p.channels && y.columns() == p.n, "windows over ", channels,
           " channels in parts do not give ", y, " with ", p.n);
    epilogue_operands(p);
  }
  void operator()(const WinogradParams& p) const {
    f32_inputs();
    neighbours(in(0));
    convolution(p, 2);
  }
  void convolution(const auto& p, size_t axes) const {
    const BoundValue &x = in(0), &y = out(0);
    views(x, y, axes);
    expect(x.columns() == p.channels && y.columns() == p.n, "windows over ", x, " with ",
           p.channels, " channels do not give ", y, " with ", p.n);
    epilogue_operands(p);
  }
  void epilogue_operands(const auto& p) const {
    if (has(2)) weights_of(2, p.n);
    if (has(3)) same_rows(3, out(0));
  }

  void operator()(const QProductParams& p) const {
    const BoundValue &x = in(0), &y = out(0);
    if (p.windows.empty()) {
      rows(x), rows(y);
      expect(x.columns() == p.channels && y.columns() == p.n && x.rows() == y.rows(),
             "the product of ", x, " and [", p.channels, ',', p.n, "] is not ", y);
    } else {
      pictures(x, y, p.windows.size());
      expect(x.columns() == p.channels && y.columns() == p.n, "windows over ", x, " with ",
             p.channels, " channels do not give ", y, " with ", p.n);
    }
    integers(p, p.n);
  }
  void operator()(const QDepthwiseParams& p) const {
    const BoundValue &x = in(0), &y = out(0);
    pictures(x, y, p.windows.size());
    expect(x.columns() == y.columns(), x, " and ", y, " differ in their channels");
    weights_of(1, checked_mul(taps(p.windows), y.columns(), "weights"));
    integers(p, y.columns());
  }
  // What products of integers share: bytes come in, `n` offsets and multipliers, an end.
  void integers(const auto& p, int64_t n) const {
    const BoundValue &x = in(0), &y = out(0);
    expect(x.dtype == DType::u8, "its input ", x, " is not uint8");
    const DType written = p.requantize.on ? DType::u8 : type_of(p.then);
    expect(y.dtype == written, "its output is ", y, ", its program gives another type");
    expect(in(2).dtype == DType::s32 && in(3).dtype == DType::f32, "offsets ", in(2),
           " and multipliers ", in(3), " have other types");
    weights_of(2, n), weights_of(3, n);
    if (has(4)) weights_of(4, n);
    if (has(4)) expect(in(4).dtype == DType::f32, "the bias ", in(4), " is not float32");
    if (has(6)) {
      expect(in(6).dtype == DType::u8 && in(6).count() == 1, "the zero point ", in(6),
             " is not one byte");
    }
    if (!has(5)) return;
    same_rows(5, y);
    expect(in(5).dtype == DType::f32 || (in(5).dtype == DType::u8 && p.then.operands.size() > 1),
           "the residual ", in(5), " is not float32");
  }

  void operator()(const ChannelwiseParams& p) const {
    const BoundValue &x = in(0), &y = out(0);
    f32_before(p.then);
    pictures(x, y, p.windows.size());
    expect(x.columns() == y.columns(), x, " and ", y, " differ in their channels");
    if (has(1)) weights_of(1, checked_mul(taps(p.windows), y.columns(), "weights"));
    if (has(2)) weights_of(2, y.columns());
    if (has(3)) same_rows(3, y);
  }

  void operator()(const MatmulParams&) const {
    const BoundValue &a = in(0), &b = in(1), &y = out(0);
    f32_inputs();
    expect(a.rank() >= 2 && b.rank() >= 2 && y.rank() == std::max(a.rank(), b.rank()), "ranks of ",
           a, ", ", b, " and ", y);
    const auto from_end = [](const BoundValue& v, size_t i) { return v.shape[v.shape.size() - i]; };
    expect(from_end(a, 1) == from_end(b, 2), "the product of ", a, " and ", b,
           ": they differ in the summed extent");
    expect(from_end(y, 2) == from_end(a, 2) && from_end(y, 1) == from_end(b, 1), "the product of ",
           a, " and ", b, " is not ", y);
    expect(unit_columns(a) && unit_columns(y), "the columns of an operand are not neighbours");
    for (const BoundValue* v : {&a, &b}) {
      for (size_t i = 3; i <= v->shape.size(); ++i) {
        expect(from_end(*v, i) == 1 || from_end(*v, i) == from_end(y, i), *v,
               " does not broadcast to ", y);
      }
    }
  }

  void operator()(const AttentionParams& p) const {
    f32_before(p.then);
    const BoundValue &q = in(0), &k = in(1), &v = in(2), &y = out(0);
    expect(y.dtype == type_of(p.then), "its output is ", y, ", its program gives another type");
    for (const BoundValue* x : {&q, &k, &v, &y}) {
      const bool merged = x->rank() == 3 && x->shape[2] % p.heads == 0;
      const bool split = x->rank() == 4 && x->shape[1] == p.heads;
      expect((merged || split) && unit_columns(*x), *x, " is not split into ", p.heads, " heads");
      expect(x->shape[0] == q.shape[0], *x, " and ", q, " differ in their batch");
    }
    const auto length = [](const BoundValue& x) { return x.shape[x.rank() == 3 ? 1 : 2]; };
    const auto size = [&](const BoundValue& x) {
      return x.rank() == 3 ? x.shape[2] / p.heads : x.shape[3];
    };
    expect(size(q) == size(k) && length(k) == length(v) && length(q) == length(y) &&
               size(v) == size(y),
           "queries ", q, ", keys ", k, ", values ", v, " and the output ", y, " do not agree");
    if (has(3)) expect(in(3).rank() <= 4, "the mask ", in(3), " has more than four axes");
  }

  void operator()(const NormParams& p) const {
    const BoundValue& x = in(0);
    const bool quantizes = !p.bytes.body.empty();
    f32_before({});
    if (x.has_gaps()) {
      expect(!has(1) && step_.outputs.size() == 1, "rows with gaps have a sum or bytes");
      columns(x), columns(out(0));
    }
    for (size_t i = 0; i < step_.outputs.size(); ++i) {
      if (!x.has_gaps()) rows(out(i));
      expect(out(i).shape == x.shape, x, " and ", out(i), " differ");
      const DType type = quantizes && i == 1 ? type_of(p.bytes) : DType::f32;
      expect(out(i).dtype == type, "its output ", out(i), " is not what it gives");
    }
    if (has(1)) same_rows(1, x);
    for (const size_t i : {2, 3}) {
      if (has(i)) weights_of(i, x.columns());
    }
  }

  void operator()(const SoftmaxParams&) const {
    f32_inputs();
    rows(in(0)), rows(out(0));
    expect(in(0).shape == out(0).shape, in(0), " and ", out(0), " differ");
  }

  void operator()(const EltwiseParams&) const {
    for (const int32_t v : step_.inputs) {
      expect(elt_type(c_.at(v).dtype).has_value(), c_.at(v), " is no type of tile programs");
    }
    const auto written = elt_type(out(0).dtype);
    expect(written && *written != EltType::s32, out(0), " is neither float32 nor bytes");
    expect(dense(out(0)), "the output ", out(0), " is not dense");
    for (const int32_t v : step_.inputs) c_.expect_broadcast(step_, v, out(0).shape);
  }

  void operator()(const LutParams&) const {
    const BoundValue &x = in(0), &table = in(1), &y = out(0);
    for (const BoundValue* v : {&x, &table, &y}) {
      expect(size_of(v->dtype) == 1, *v, " has no elements of one byte");
    }
    rows(x), rows(y);
    expect(x.shape == y.shape, x, " and ", y, " differ");
    weights_of(1, 256);
  }

  void operator()(const BytePoolParams& p) const {
    const BoundValue &x = in(0), &y = out(0);
    expect((x.dtype == DType::u8 || x.dtype == DType::s8) && y.dtype == x.dtype, x, " and ", y,
           " are no bytes of one type");
    pictures(x, y, p.windows.size());
    expect(x.columns() == y.columns(), x, " and ", y, " differ in their channels");
  }

  void operator()(const DynamicQuantizeParams&) const {
    const BoundValue &x = in(0), &y = out(0), &scale = out(1), &zero = out(2);
    f32(x), f32(scale);
    all_dense();
    expect(y.dtype == DType::u8 && zero.dtype == DType::u8, y, " or ", zero, " is not uint8");
    expect(y.shape == x.shape, x, " and ", y, " differ");
    expect(scale.count() == 1 && zero.count() == 1, scale, " or ", zero, " is not one number");
  }

  void operator()(const IntegerParams& p) const {
    const bool select = p.kind == IntegerKind::select;
    const bool compares = p.kind == IntegerKind::equal || p.kind == IntegerKind::less ||
                          p.kind == IntegerKind::less_equal;
    const BoundValue &a = in(select ? 1 : 0), &b = in(select ? 2 : 1), &y = out(0);
    expect(a.dtype == b.dtype, a, " and ", b, " differ in their types");
    if (select) expect(in(0).dtype == DType::b8, "the condition ", in(0), " is not bool");
    if (!select) expect(is_index(a), a, " is neither int32 nor int64");
    const bool result =
        compares ? y.dtype == DType::b8 || y.dtype == DType::f32 : y.dtype == a.dtype;
    expect(result, y, " is not what comes of ", a);
    broadcasts();
  }

  void operator()(const IndexParams& p) const {
    const bool hot = p.kind == IndexKind::one_hot;
    const BoundValue &x = in(0), &indices = in(1), &y = out(0);
    expect(is_index(indices), "the indices ", indices, " are neither int32 nor int64");
    all_dense();
    expect(x.dtype == y.dtype, x, " and ", y, " differ in their types");
    if (step_.inputs.size() > 2) {
      expect(in(2).dtype == x.dtype, x, " and ", in(2), " differ in their types");
      expect(y.shape == x.shape, x, " and ", y, " differ");
    }
    // What is read or written where the indices say.
    const BoundValue& moved = step_.inputs.size() > 2 ? in(2) : y;
    const bool whole = hot ? x.count() == 2 && axis_in(y, p.axis) : x.rank() > 0;
    expect(whole, x, " has no axis for ", indices);
    if (hot) {
      expect(indices.shape == without(y.shape, p.axis, 1), indices, " do not give ", y);
    } else if (p.kind == IndexKind::gather) {
      expect(axis_in(x, p.axis), x, " has no axis ", p.axis);
      Shape want = without(x.shape, p.axis, 1);
      want.insert(want.begin() + p.axis, indices.shape.begin(), indices.shape.end());
      expect(y.shape == want, indices, " of ", x, " do not give ", y);
    } else if (p.kind == IndexKind::gather_elements || p.kind == IndexKind::scatter_elements) {
      expect(axis_in(x, p.axis) && axis_in(indices, p.axis), x, " has no axis ", p.axis);
      expect(moved.shape == indices.shape, indices, " and ", moved, " differ");
      expect(without(x.shape, p.axis, 1) == without(indices.shape, p.axis, 1), indices, " and ", x,
             " differ beside axis ", p.axis);
    } else {
      coordinates(p, x, indices, moved);
    }
  }

  void operator()(const LaneParams& p) const {
    const BoundValue &x = in(0), &y = out(0);
    all_dense();
    expect(x.dtype == DType::f32 || is_index(x), x, " is not float32, int32 or int64");
    expect(axis_in(x, p.axis), x, " has no axis ", p.axis);
    const auto axis = static_cast<size_t>(p.axis);
    const BoundValue& last = out(step_.outputs.size() - 1);
    expect(p.kind == LaneKind::arg || y.dtype == x.dtype, x, " and ", y, " differ in their types");
    expect(p.kind == LaneKind::sum || last.dtype == DType::s64, last, " is not int64");
    if (p.kind == LaneKind::sum) {
      expect(x.shape == y.shape, x, " and ", y, " differ");
    } else if (p.kind == LaneKind::top) {
      expect(y.shape == last.shape && axis_in(y, p.axis) &&
                 without(y.shape, p.axis, 1) == without(x.shape, p.axis, 1) &&
                 y.shape[axis] <= x.shape[axis],
             y, " is no part of ", x);
    } else {
      expect(y.count() == checked_count(without(x.shape, p.axis, 1)) &&
                 (x.shape[axis] > 0 || y.count() == 0),
             y, " is not what is left of ", x);
    }
  }

  void operator()(const EmbedParams& p) const {
    const BoundValue& y = out(0);
    f32(y), rows(y);
    expect(y.rank() >= 1 && y.rank() <= 3, "the output ", y, " has more than three axes");
    for (size_t t = 0; t < static_cast<size_t>(p.tables); ++t) {
      const BoundValue &table = in(2 * t), &ids = in(2 * t + 1);
      f32(table), rows(table);
      expect(table.rank() == 2 && table.columns() == y.columns(), "the table ", table,
             " does not give rows of ", y);
      expect((ids.dtype == DType::s64 || ids.dtype == DType::s32) && ids.rank() <= 2, "the ids ",
             ids, " are no integers of one or two axes");
    }
    for (size_t i = static_cast<size_t>(2 * p.tables); i < step_.inputs.size(); ++i) {
      if (has(i)) weights_of(i, y.columns());
    }
  }

  void operator()(const RecurrentParams& p) const {
    const RecurrentSizes sizes = p.sizes();
    const BoundValue &x = in(0), &states = out(3);
    f32(x), f32(states);
    expect(x.rank() == 3 && unit_columns(x) && x.columns() == p.sides * sizes.side_columns(), x,
           " is not what comes of the input of ", p.hidden, " units");
    const int64_t steps = x.shape[0], batch = x.shape[1];
    const Shape state{p.sides, batch, p.hidden};
    if (has(2)) f32(in(2)), weights_of(2, p.sides * sizes.more_floats());
    for (const size_t i : {size_t{3}, size_t{4}}) {
      if (has(i)) state_of(in(i), state);
    }
    if (has(5)) {
      expect(in(5).dtype == DType::s32 && in(5).shape == Shape{batch} && dense(in(5)), in(5),
             " are no lengths of ", batch, " samples");
    }
    if (step_.outputs[0] >= 0) state_of(out(0), {steps, p.sides, batch, p.hidden});
    for (const size_t i : {size_t{1}, size_t{2}}) {
      if (step_.outputs[i] >= 0) state_of(out(i), state);
    }
    const Shape room{sizes.form.states, p.sides, batch, sizes.pitch()};
    expect(states.shape == room && dense(states), states, " has no room for states of ",
           shape_text(room));
  }
  void state_of(const BoundValue& v, const Shape& shape) const {
    f32(v);
    expect(v.shape == shape && unit_columns(v), v, " is no state of ", shape_text(shape));
  }

  void operator()(const CopyParams&) const {
    const BoundValue &x = in(0), &y = out(0);
    expect(x.shape == y.shape, x, " and ", y, " differ");
    if (x.dtype == y.dtype) return;
    expect(dense(x) && dense(y), "a conversion takes dense arrays");
    expect(conversion_of(x.dtype, y.dtype).has_value(), "there is no conversion from ", x, " to ",
           y);
  }

  void operator()(const ReduceParams& p) const {
    const BoundValue &x = in(0), &y = out(0);
    expect(x.dtype == y.dtype, x, " and ", y, " differ in their types");
    const bool whole = p.kind == ReduceKind::sum || p.kind == ReduceKind::max ||
                       p.kind == ReduceKind::min || p.kind == ReduceKind::product;
    expect(x.dtype == DType::f32 || (whole && is_index(x)), "the type of ", x);
    const bool extreme = p.kind == ReduceKind::max || p.kind == ReduceKind::min;
    expect(x.count() > 0 || y.count() == 0 || !extreme || x.dtype == DType::f32,
           "no greatest or smallest element of ", x);
    const auto first = static_cast<size_t>(p.axes.front()),
               last = static_cast<size_t>(p.axes.back());
    expect(last < x.shape.size() && dense(x) && dense(y), "the axes of ", x, " end before ", last);
    const int64_t outer = checked_count(std::span(x.shape).first(first));
    const int64_t inner = checked_count(std::span(x.shape).subspan(last + 1));
    expect(y.count() == checked_mul(outer, inner), y, " is not what is left of ", x);
  }

  void operator()(const RangeParams&) const {
    const BoundValue& y = out(0);
    expect((y.dtype == DType::s64 || y.dtype == DType::s32) && dense(y), y,
           " is no dense array of integers");
  }

  void operator()(const ResampleParams& p) const {
    const BoundValue &x = in(0), &y = out(0);
    f32_inputs();
    pictures(x, y, p.axes.size());
    expect(x.columns() == y.columns(), x, " and ", y, " differ in their channels");
  }

  void operator()(const GridSampleParams&) const {
    const BoundValue &x = in(0), &grid = in(1), &y = out(0);
    f32_inputs();
    const bool ranks = (x.rank() == 4 || x.rank() == 5) && grid.rank() == 4 && y.rank() == 4;
    const auto batch = static_cast<size_t>(x.rank() - 3);
    expect(ranks && checked_count(std::span(x.shape).first(batch)) == y.shape[0] &&
               x.columns() == y.columns(),
           "places of ", x, " do not give ", y);
    const Shape want{y.shape[0], y.shape[1], y.shape[2], 2};
    expect(grid.shape == want, "the grid is ", grid, " for ", y);
    expect(y.count() == 0 || x.count() > 0, "there is nothing to sample in ", x);
    const bool fits = y.has_planes() || (unit_columns(x) && has_rows(y));
    expect(y.count() == 0 || fits, y, " does not lie beside ", x);
  }

  void operator()(const RoiAlignParams&) const {
    const BoundValue &x = in(0), &regions = in(1), &pictures = in(2), &y = out(0);
    f32(x), f32(regions), f32(y);
    expect(x.rank() == 4 && y.rank() == 4 && x.columns() == y.columns(), "cells of ", x,
           " do not give ", y);
    neighbours(x);
    expect(regions.shape == Shape{y.shape[0], 4} && dense(regions) &&
               pictures.shape == Shape{y.shape[0]} && dense(pictures) &&
               pictures.dtype == DType::s64,
           "the regions are ", regions, " with pictures ", pictures, " for ", y);
    expect(y.count() == 0 || x.count() > 0, "there is nothing to sample in ", x);
    expect(y.count() == 0 || y.has_planes() || has_rows(y), y, " does not lie in cells");
  }

  void operator()(const LrnParams& p) const {
    f32_inputs();
    all_dense();
    expect(in(0).shape == out(0).shape && axis_in(in(0), p.axis), in(0), " and ", out(0),
           " differ, or have no axis ", p.axis);
  }

  void operator()(const ReferenceParams&) const {
    for (const auto* ids : {&step_.inputs, &step_.outputs}) {
      for (const int32_t v : *ids) {
        if (v >= 0 && !c_.at(v).late) expect(dense(c_.at(v)), c_.at(v), " is not dense");
      }
    }
  }

 private:
  const BoundValue& in(size_t i) const { return c_.at(step_.inputs[i]); }
  const BoundValue& out(size_t i) const { return c_.at(step_.outputs[i]); }
  bool has(size_t i) const { return i < step_.inputs.size() && step_.inputs[i] >= 0; }

  static std::string text(const BoundValue& v) { return cat(v.dtype, shape_text(v.shape)); }
  static const auto& text(const auto& part) { return part; }

  void expect(bool holds, const auto&... what) const {
    if (holds) return;
    throw with(RunError(cat(text(what)...), " in ", c_.nodes_text(step_)),
               {.got = cat(text(what)...)});
  }

  void f32(const BoundValue& v) const { expect(v.dtype == DType::f32, v, " is not float32"); }
  void f32_inputs() const {
    for (const auto* ids : {&step_.inputs, &step_.outputs}) {
      for (const int32_t v : *ids) {
        if (v >= 0) f32(c_.at(v));
      }
    }
  }

  // Products of floats whose program may end in bytes.
  void f32_before(const TileProgram& then) const {
    for (const int32_t v : step_.inputs) {
      if (v >= 0) f32(c_.at(v));
    }
    const auto written = elt_type(out(0).dtype);
    const bool bytes = written && elt_bytes(*written) == 1 && !then.body.empty();
    expect(bytes || written == EltType::f32, out(0), " is not what its program gives");
  }

  static bool is_index(const BoundValue& v) {
    return v.dtype == DType::s32 || v.dtype == DType::s64;
  }
  static bool axis_in(const BoundValue& v, int64_t axis) { return axis < v.rank(); }
  static Shape without(Shape shape, int64_t axis, int64_t count) {
    shape.erase(shape.begin() + axis, shape.begin() + axis + count);
    return shape;
  }
  void all_dense() const {
    for (const auto* ids : {&step_.inputs, &step_.outputs}) {
      for (const int32_t v : *ids) expect(dense(c_.at(v)), c_.at(v), " is not dense");
    }
  }
  void broadcasts() const {
    all_dense();
    for (const int32_t v : step_.inputs) c_.expect_broadcast(step_, v, out(0).shape);
  }
  // Rows of indices fix the axes of x behind the batch; what they leave is moved.
  void coordinates(const IndexParams& p, const BoundValue& x, const BoundValue& indices,
                   const BoundValue& moved) const {
    expect(indices.rank() > p.batch && indices.shape.back() >= 1 &&
               indices.shape.back() <= x.rank() - p.batch,
           indices, " do not fit ", x);
    for (size_t i = 0; i < static_cast<size_t>(p.batch); ++i) {
      expect(x.shape[i] == indices.shape[i], indices, " and ", x, " differ in their batch");
    }
    Shape want(indices.shape.begin(), indices.shape.end() - 1);
    want.insert(want.end(), x.shape.begin() + p.batch + indices.shape.back(), x.shape.end());
    expect(moved.shape == want, indices, " of ", x, " do not stand for ", moved);
  }

  static int64_t taps(const std::vector<WindowParams>& windows) {
    int64_t taps = 1;
    for (const WindowParams& w : windows) taps = checked_mul(taps, w.kernel, "taps");
    return taps;
  }
  // What a program gives: bytes if its last instruction is a quantisation.
  static DType type_of(const TileProgram& p) {
    if (p.body.empty()) return DType::f32;
    if (p.body.back().op == TileOp::quantize_u8) return DType::u8;
    return p.body.back().op == TileOp::quantize_s8 ? DType::s8 : DType::f32;
  }
  // Strides of a value without elements mean nothing.
  static bool dense(const BoundValue& v) { return v.count() == 0 || is_dense(v); }
  // Rows side by side, one axis of them in front at most.
  void columns(const BoundValue& v) const {
    const bool fits = (v.rank() == 2 || v.rank() == 3) &&
                      (v.shape[v.shape.size() - 2] == 1 || v.strides[v.shape.size() - 2] == 1);
    expect(v.count() == 0 || fits, v, " does not lie in columns");
  }
  static bool unit_columns(const BoundValue& v) {
    return v.shape.empty() || v.shape.back() <= 1 || v.strides.back() == 1;
  }

  void rows(const BoundValue& v) const {
    expect(v.count() == 0 || has_rows(v), v, " does not lie in rows");
  }

  // Batch, one axis for each window, channels; y lies in rows. How far windows reach is no matter:
  // kernels look at every edge.
  void pictures(const BoundValue& x, const BoundValue& y, size_t axes) const {
    views(x, y, axes);
    neighbours(x);
  }
  void neighbours(const BoundValue& x) const {
    expect(unit_columns(x), "the channels of ", x, " are not neighbours");
  }
  void views(const BoundValue& x, const BoundValue& y, size_t axes) const {
    expect(x.shape.size() == axes + 2 && y.shape.size() == axes + 2 && x.shape[0] == y.shape[0],
           "windows over ", axes, " axes of ", x, " do not give ", y);
    rows(y);
  }

  void same_rows(size_t i, const BoundValue& like) const {
    rows(in(i));
    expect(in(i).columns() == like.columns() && in(i).rows() == like.rows(), in(i), " and ", like,
           " differ");
  }
  void weights_of(size_t i, int64_t columns) const {
    expect(dense(in(i)) && in(i).count() == columns, in(i), " is not a vector of ", columns);
  }

  const BindContext& c_;
  const Step& step_;
};

}  // namespace

void check_contract(const BindContext& context, const Step& step) {
  std::visit(Contract(context, step), step.params);
}

}  // namespace planck
