#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "ops/product.h"
#include "ops/support.h"

namespace planck::ops {

namespace {

// Extents of one operand, whichever way it lies.
template <class T>
struct Operand {
  T batch, length, width;  // width is of one head
};

Operand<Dim> operand_of(const Inference& call, size_t i, int64_t heads) {
  need_float("Attention", call, i);
  need_same_type("Attention", call, 0, i);
  need_rank("Attention", call, i, 3, 4);
  const auto& type = call.at(i).type;
  const auto& d = type.dims;
  if (d.size() == 4) {
    if (d[1].is_constant() && d[1] != Dim(heads)) {
      throw GraphError("Attention: input ", i, " is ", type, ", expected ", heads, " heads");
    }
    return {d[0], d[2], d[3]};
  }
  const auto width = exact_div(d[2], Dim(heads));
  if (!width) {
    throw GraphError("Attention: input ", i, " is ", type, ", whose width does not divide by ",
                     heads, " heads");
  }
  return {d[0], d[1], *width};
}

void need_equal(std::string_view what, const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant() && a != b) {
    throw GraphError("Attention: ", what, " ", a, " and ", b, " differ");
  }
}

Operand<int64_t> operand_of(const Wide& x, int64_t heads) {
  const Shape& s = x.shape;
  if (s.size() == 4 && s[1] == heads) return {s[0], s[2], s[3]};
  if (s.size() == 3 && s[2] % heads == 0) return {s[0], s[1], s[2] / heads};
  throw RunError("Attention: ", shape_text(s), " does not hold ", heads, " heads");
}

// Where the rows of one head of one sample lie.
Lane head_rows(const Wide& x, const Operand<int64_t>& o, int64_t heads, int64_t b, int64_t h) {
  const bool apart = x.shape.size() == 4;
  const int64_t start =
      apart ? (b * heads + h) * o.length * o.width : b * o.length * heads * o.width + h * o.width;
  return {start, apart ? o.width : heads * o.width, o.length};
}

// That head as a dense matrix [length, width].
std::vector<double> head_of(const Wide& x, const Operand<int64_t>& o, int64_t heads, int64_t b,
                            int64_t h) {
  const Lane rows = head_rows(x, o, heads, b, h);
  std::vector<double> out;
  out.reserve(static_cast<size_t>(o.length * o.width));
  for (int64_t l = 0; l < rows.count; ++l) {
    const auto row = x.real.begin() + rows.at(l);
    out.insert(out.end(), row, row + o.width);
  }
  return out;
}

void put_head(Wide& out, const std::vector<double>& y, const Operand<int64_t>& o, int64_t heads,
              int64_t b, int64_t h) {
  const Lane rows = head_rows(out, o, heads, b, h);
  for (int64_t l = 0; l < rows.count; ++l) {
    const auto row = y.begin() + l * o.width;
    std::copy(row, row + o.width, out.real.begin() + rows.at(l));
  }
}

std::vector<double> transposed(const std::vector<double>& x, int64_t rows, int64_t columns) {
  std::vector<double> out(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      out[static_cast<size_t>(c * rows + r)] = x[static_cast<size_t>(r * columns + c)];
    }
  }
  return out;
}

void softmax_row(std::span<double> row, bool masked_zero) {
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  if (masked_zero && std::ranges::all_of(row, [](double v) { return v == kNone; })) {
    std::ranges::fill(row, 0.0);
    return;
  }
  double top = kNone, sum = 0;
  for (const double v : row) top = std::max(top, v);
  for (double& v : row) sum += v = std::exp(v - top);
  for (double& v : row) v /= sum;
}

// The mask's element for every score, or nothing without a mask.
std::vector<int64_t> mask_index(const Evaluation& call, const Shape& scores) {
  check_size(scores);
  return call.has(3) ? broadcast_index(call.at(3).shape, scores) : std::vector<int64_t>();
}

// scores * scale + mask; where it hides, a mask of -inf takes the place of the score.
void add_mask(const Evaluation& call, const std::vector<int64_t>& mask, std::vector<double>& scores,
              size_t first, double scale, bool hides) {
  for (size_t i = 0; i < scores.size(); ++i) {
    scores[i] *= scale;
    if (mask.empty()) continue;
    const double added = call.at(3).real.at(static_cast<size_t>(mask[first + i]));
    scores[i] =
        hides && added == -std::numeric_limits<double>::infinity() ? added : scores[i] + added;
  }
}

}  // namespace

void Attention::infer(Inference& call) const {
  if (heads < 1) throw GraphError("Attention: ", heads, " heads, expected 1 or more");
  const auto q = operand_of(call, 0, heads), k = operand_of(call, 1, heads),
             v = operand_of(call, 2, heads);
  need_equal("batches", q.batch, k.batch);
  need_equal("batches", q.batch, v.batch);
  need_equal("widths of q and k", q.width, k.width);
  need_equal("lengths of k and v", k.length, v.length);
  if (call.has(3)) {
    need_same_type(kName, call, 0, 3);
    need_rank(kName, call, 3, 0, 4);
    broadcast(std::vector<Dim>{q.batch, heads, q.length, k.length}, call.at(3).type.dims);
  }
  const DType dtype = call.at(0).type.dtype;
  if (merged != 0) {
    set_type(call, 0, dtype, {q.batch, q.length, v.width * Dim(heads)});
  } else {
    set_type(call, 0, dtype, {q.batch, heads, q.length, v.width});
  }
}

void Attention::reference(Evaluation& call) const {
  if (heads < 1) throw GraphError("Attention: ", heads, " heads, expected 1 or more");
  const auto q = operand_of(call.at(0), heads), k = operand_of(call.at(1), heads),
             v = operand_of(call.at(2), heads);
  if (q.batch != k.batch || q.batch != v.batch || q.width != k.width || k.length != v.length) {
    throw RunError("Attention: ", shape_text(call.at(0).shape), ", ", shape_text(call.at(1).shape),
                   " and ", shape_text(call.at(2).shape), " do not fit");
  }
  const auto mask = mask_index(call, {q.batch, heads, q.length, k.length});
  Wide out = make_wide(call.at(0).dtype, merged != 0 ? Shape{q.batch, q.length, heads * v.width}
                                                     : Shape{q.batch, heads, q.length, v.width});
  const Operand<int64_t> result{q.batch, q.length, v.width};
  std::vector<double> scores(static_cast<size_t>(q.length * k.length));
  std::vector<double> y(static_cast<size_t>(q.length * v.width));
  if (out.count() == 0) {
    call.out[0] = std::move(out);
    return;
  }
  for (int64_t at = 0; at < q.batch * heads; ++at) {
    check_guard();
    const int64_t b = at / heads, h = at % heads;
    const auto keys = transposed(head_of(call.at(1), k, heads, b, h), k.length, k.width);
    product(head_of(call.at(0), q, heads, b, h).data(), keys.data(), scores.data(),
            {q.length, k.length, q.width});
    add_mask(call, mask, scores, static_cast<size_t>(at) * scores.size(), scale,
             masked_rows_zero != 0);
    for (int64_t l = 0; l < q.length; ++l) {
      const auto columns = static_cast<size_t>(k.length);
      softmax_row(std::span(scores).subspan(static_cast<size_t>(l) * columns, columns),
                  masked_rows_zero != 0);
    }
    product(scores.data(), head_of(call.at(2), v, heads, b, h).data(), y.data(),
            {q.length, v.width, k.length});
    put_head(out, y, result, heads, b, h);
  }
  call.out[0] = std::move(out);
}
PLANCK_OWN_OP(Attention)

}  // namespace planck::ops
