#include "backends/packing.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/checked.h"
#include "kernels/matmul/rows.h"
#include "kernels/qmatmul/rows.h"

namespace planck {
namespace {

// A window of columns of an f32 matrix, or its transpose.
Tensor window(const Tensor& matrix, const SourceWeight& w, int64_t width) {
  const int64_t k = matrix.shape()[0], n = matrix.shape()[1];
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, w.shape, &bytes);
  auto* to = reinterpret_cast<float*>(bytes);
  const auto* from = matrix.as<float>() + w.offset;
  for (int64_t i = 0; i < k; ++i) {
    const int64_t place = w.form == WeightForm::transposed ? transposed_place(w.shape, i) : 0;
    for (int64_t j = 0; j < width; ++j) {
      to[w.form == WeightForm::columns ? i * width + j : j * k + place] = from[i * n + j];
    }
  }
  return out;
}

bool is_recurrent(WeightForm form) {
  return form == WeightForm::recurrent_input || form == WeightForm::recurrent_state;
}

Tensor rows_of_layer(const Tensor& matrix, const SourceWeight& w) {
  const auto columns = RecurrentColumns::of(w.form, w.offset, w.shape, matrix.shape());
  const int64_t k = matrix.shape()[0], n = matrix.shape()[1];
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, w.shape, &bytes);
  auto* to = reinterpret_cast<float*>(bytes);
  for (int64_t row = 0; row < w.shape[0] * w.shape[1]; ++row) {
    const float* from = matrix.as<float>() + columns->at(row);
    for (int64_t i = 0; i < k; ++i) to[row * k + i] = from[i * n];
  }
  return out;
}

bool inside(const Tensor& whole, const SourceWeight& w, int64_t count) {
  if (w.offset < 0 || w.constant < 0) return false;
  if (is_recurrent(w.form)) {
    return whole.dtype() == DType::f32 && whole.rank() == 2 &&
           RecurrentColumns::of(w.form, w.offset, w.shape, whole.shape()).has_value();
  }
  if (w.form == WeightForm::flat) return w.offset <= whole.count() - count;
  if (whole.rank() != 2 || whole.dtype() != DType::f32 || whole.shape()[0] == 0) return false;
  const int64_t k = whole.shape()[0];
  // A transpose is [width, k], where k may be channels x taps.
  if (w.form == WeightForm::transposed &&
      (w.shape.size() < 2 || w.shape[0] == 0 || count / w.shape[0] != k)) {
    return false;
  }
  return count % k == 0 && w.offset <= whole.shape()[1] - count / k;
}

constexpr float kBesideSubnormals = 0x1p-100F;  // without_subnormals

bool is_subnormal(float x) { return x != 0 && std::fabs(x) < 0x1p-126F; }

}  // namespace

int64_t transposed_place(const Shape& shape, int64_t row) {
  const int64_t channels = shape[1], taps = checked_count(std::span(shape).subspan(2));
  return row % channels * taps + row / channels;
}

std::optional<RecurrentColumns> RecurrentColumns::of(WeightForm form, int64_t kind,
                                                     const Shape& shape, const Shape& matrix) {
  constexpr auto kLast = static_cast<int64_t>(RecurrentKind::lstm);
  if (kind < 0 || kind > kLast || shape.size() != 3 || matrix.size() != 2) return std::nullopt;
  const auto known = static_cast<RecurrentKind>(kind);
  const int64_t gates = recurrent_form(known).all_gates();
  const bool rows = (shape[0] == 1 || shape[0] == 2) && shape[1] > 0 && shape[1] <= matrix[1] &&
                    shape[1] % gates == 0;
  if (!rows || shape[2] != matrix[0]) return std::nullopt;
  const RecurrentSizes sizes(known, shape[1] / gates);
  const bool input = form == WeightForm::recurrent_input;
  const int64_t n = shape[0] * (input ? sizes.side_columns() : sizes.side_weights());
  if (n != matrix[1]) return std::nullopt;
  return RecurrentColumns(form, sizes, shape[1]);
}

int64_t RecurrentColumns::at(int64_t row) const {
  const int64_t side = row / rows_, inside = row % rows_;
  return form_ == WeightForm::recurrent_input ? sizes_.input_column(side, inside)
                                              : sizes_.state_column(side, inside);
}

Tensor unpacked(const PlanConstant& c) {
  if (c.packing.kernel.empty()) return c.tensor;
  std::byte* bytes = nullptr;
  const auto [kernel, n, k] = c.packing;
  if (c.tensor.dtype() == DType::s8) {
    Tensor out = Tensor::make(DType::s8, {k, n}, &bytes);
    unpack_b(qmatmul_row(kernel), n, k, c.tensor.as<int8_t>(), reinterpret_cast<int8_t*>(bytes), n,
             1);
    return out;
  }
  Tensor out = Tensor::make(DType::f32, {k, n}, &bytes);
  unpack_b(matmul_row(kernel), n, k, c.tensor.as<float>(), reinterpret_cast<float*>(bytes), n, 1);
  return out;
}

Tensor without_subnormals(const Tensor& matrix) {
  const std::span weights(matrix.as<float>(), static_cast<size_t>(matrix.count()));
  if (std::ranges::none_of(weights, is_subnormal)) return matrix;
  const auto is_large = [](float x) { return std::fabs(x) >= kBesideSubnormals; };
  if (std::ranges::none_of(weights, is_large)) return matrix;
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, matrix.shape(), &bytes);
  auto* to = reinterpret_cast<float*>(bytes);
  std::ranges::transform(weights, to, [](float x) { return is_subnormal(x) ? 0.0F : x; });
  return out;
}

PlanConstant packed(const std::string& name, const Tensor& source, const std::string& kernel) {
  const Tensor matrix = without_subnormals(source);
  const MatmulRow& row = matmul_row(kernel);
  const int64_t k = matrix.shape()[0], n = matrix.shape()[1];
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, {packed_floats(row, n, k)}, &bytes);
  pack_b(row, n, k, matrix.as<float>(), n, 1, reinterpret_cast<float*>(bytes));
  return {name, std::move(out), {kernel, n, k}};
}

PlanConstant packed_codes(const std::string& name, std::span<const int8_t> matrix, int64_t n,
                          int64_t k, const std::string& kernel) {
  const QmatmulRow& row = qmatmul_row(kernel);
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::s8, {packed_bytes(row, n, k)}, &bytes);
  pack_b(row, n, k, matrix.data(), n, 1, reinterpret_cast<int8_t*>(bytes));
  return {name, std::move(out), {kernel, n, k}};
}

Tensor source_weight(const Plan& plan, const SourceWeight& w) {
  if (w.constant < 0 || static_cast<size_t>(w.constant) >= plan.constants.size()) {
    throw CorruptError("a source weight names constant ", w.constant, " of ",
                       plan.constants.size());
  }
  const Tensor whole = unpacked(plan.constants[static_cast<size_t>(w.constant)]);
  const int64_t count = checked_count(w.shape);
  const bool same_type =
      whole.dtype() == w.dtype || (whole.dtype() == DType::f32 && is_half(w.dtype));
  if (!same_type || !inside(whole, w, count)) {
    throw CorruptError("a source weight lies outside its constant '",
                       plan.constants[static_cast<size_t>(w.constant)].name, "'");
  }
  const auto stored = [&] {
    if (is_recurrent(w.form)) return rows_of_layer(whole, w);
    if (w.form != WeightForm::flat) return window(whole, w, count / whole.shape()[0]);
    const std::byte* data = whole.data() + w.offset * size_of(whole.dtype());
    return Tensor(whole.dtype(), w.shape, data, std::make_shared<const Tensor>(whole));
  };
  const Tensor found = stored();
  return found.dtype() == w.dtype ? found : narrow(widen(found), w.dtype);
}

}  // namespace planck
