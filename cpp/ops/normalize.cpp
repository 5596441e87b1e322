#include "ops/normalize.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "base/guard.h"

namespace planck {

namespace {

struct Moments {
  double mean, inverse;
};

Moments moments(std::span<const double> row, double epsilon) {
  double sum = 0, squares = 0;
  for (const double v : row) sum += v;
  const double mean = sum / static_cast<double>(row.size());
  for (const double v : row) squares += (v - mean) * (v - mean);
  return {mean, 1 / std::sqrt(squares / static_cast<double>(row.size()) + epsilon)};
}

}  // namespace

Normalized normalize(const Wide& x, int64_t axis, double epsilon, const Wide& gain,
                     const Wide* bias) {
  const auto at = static_cast<size_t>(checked_axis(axis, x.rank()));
  Shape outer = x.shape;
  std::fill(outer.begin() + static_cast<std::ptrdiff_t>(at), outer.end(), 1);
  Normalized out{make_wide(x.dtype, x.shape), make_wide(x.dtype, outer), make_wide(x.dtype, outer)};
  const std::vector<int64_t> of_gain = broadcast_index(gain.shape, x.shape);
  const std::vector<int64_t> of_bias =
      bias == nullptr ? std::vector<int64_t>() : broadcast_index(bias->shape, x.shape);
  const size_t rows = out.mean.real.size();
  const size_t width = rows == 0 ? 0 : x.real.size() / rows;
  for (size_t r = 0; r < rows; ++r) {
    check_guard();
    const auto row = std::span(x.real).subspan(r * width, width);
    const Moments m = moments(row, epsilon);
    out.mean.real[r] = m.mean;
    out.inverse.real[r] = m.inverse;
    for (size_t i = r * width; i < (r + 1) * width; ++i) {
      const double scaled =
          (x.real[i] - m.mean) * m.inverse * gain.real.at(static_cast<size_t>(of_gain[i]));
      out.y.real[i] =
          scaled + (bias == nullptr ? 0 : bias->real.at(static_cast<size_t>(of_bias[i])));
    }
  }
  return out;
}

void need_affine(std::string_view op, const Inference& call, size_t i, DType dtype,
                 const std::vector<Dim>& x) {
  const TensorType& type = call.at(i).type;
  if (type.dtype != dtype) {
    throw GraphError(op, ": input ", i, " is ", type, ", expected ", dtype);
  }
  const std::vector<Dim> both = broadcast(x, type.dims);
  for (size_t d = 0; d < both.size(); ++d) {
    const bool wider =
        both.size() != x.size() || (both[d].is_constant() && x[d].is_constant() && both[d] != x[d]);
    if (wider) {
      throw GraphError(op, ": input ", i, " is ", type, ", which does not broadcast to [",
                       joined(x, ","), "]");
    }
  }
}

}  // namespace planck
