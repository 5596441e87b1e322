#include "builder/source.h"

#include <algorithm>
#include <cstring>

#include "backends/packing.h"
#include "base/guard.h"
#include "ir/archive.h"

namespace planck {
namespace {

// An initializer, and where it was found.
struct Wanted {
  Tensor tensor;
  Tensor compared;  // as it would lie in a constant: halves as f32
  SourceWeight place{};
};

bool same(const void* a, const void* b, int64_t bytes) {
  return std::memcmp(a, b, static_cast<size_t>(bytes)) == 0;
}

// The same bytes somewhere in the constant: whole tensors, slices of a concatenation.
bool find_flat(const Tensor& whole, Wanted& w) {
  const Tensor& t = w.compared;
  if (whole.dtype() != t.dtype() || whole.count() < t.count() || t.count() == 0) return false;
  // Concatenations join whole pieces, so a slice begins at a multiple of its own size.
  const int64_t step = whole.count() % t.count() == 0 ? t.count() : whole.count();
  for (int64_t at = 0; at + t.count() <= whole.count(); at += step) {
    check_guard_at(static_cast<size_t>(at));
    if (!same(whole.data() + at * size_of(t.dtype()), t.data(), t.bytes())) continue;
    w.place.form = WeightForm::flat;
    w.place.offset = at;
    return true;
  }
  return false;
}

// Columns [first, first + width) of a [k, n] matrix, or their transpose (SourceWeight::place).
bool matches(const Tensor& whole, const Wanted& w, int64_t first, int64_t width, bool transposed) {
  const int64_t k = whole.shape()[0], n = whole.shape()[1];
  const float* t = w.compared.as<float>();
  for (int64_t i = 0; i < k; ++i) {
    const float* row = whole.as<float>() + i * n + first;
    if (!transposed && !same(row, t + i * width, width * 4)) return false;
    if (!transposed) continue;
    const int64_t at = transposed_place(w.tensor.shape(), i);
    for (int64_t j = 0; j < width; ++j) {
      if (!same(row + j, t + j * k + at, 4)) return false;
    }
  }
  return true;
}

bool find_columns(const Tensor& whole, Wanted& w) {
  const Tensor& t = w.compared;
  if (whole.rank() != 2 || whole.dtype() != DType::f32 || t.dtype() != DType::f32) return false;
  const int64_t k = whole.shape()[0], n = whole.shape()[1];
  if (k == 0 || t.count() % k != 0 || t.count() / k > n || t.rank() < 2) return false;
  const int64_t width = t.count() / k;
  for (const bool transposed : {false, true}) {
    if (transposed ? t.shape()[0] != width : t.rank() != 2 || t.shape()[0] != k) continue;
    for (int64_t first = 0; first + width <= n; first += width) {
      if (!matches(whole, w, first, width, transposed)) continue;
      w.place.form = transposed ? WeightForm::transposed : WeightForm::columns;
      w.place.offset = first;
      return true;
    }
  }
  return false;
}

// Rows of a recurrent layer's weights, in the order of its kernels.
bool find_layer(const Tensor& whole, Wanted& w) {
  const Tensor& t = w.compared;
  if (whole.rank() != 2 || whole.dtype() != DType::f32 || t.dtype() != DType::f32) return false;
  const auto same_rows = [&](const RecurrentColumns& columns) {
    const int64_t k = whole.shape()[0], n = whole.shape()[1];
    for (int64_t row = 0; row < t.shape()[0] * t.shape()[1]; ++row) {
      const float* from = whole.as<float>() + columns.at(row);
      for (int64_t i = 0; i < k; ++i) {
        if (!same(from + i * n, t.as<float>() + row * k + i, 4)) return false;
      }
    }
    return true;
  };
  for (const WeightForm form : {WeightForm::recurrent_input, WeightForm::recurrent_state}) {
    for (auto kind = static_cast<int64_t>(RecurrentKind::lstm); kind >= 0; --kind) {
      const auto columns = RecurrentColumns::of(form, kind, t.shape(), whole.shape());
      if (!columns || !same_rows(*columns)) continue;
      w.place.form = form;
      w.place.offset = kind;
      return true;
    }
  }
  return false;
}

void find_all(const Plan& plan, std::vector<Wanted>& wanted) {
  for (size_t c = 0; c < plan.constants.size(); ++c) {
    const int64_t count = plan.constants[c].tensor.count();
    const bool any = std::ranges::any_of(wanted, [&](const Wanted& w) {
      return w.place.constant < 0 && w.compared.count() <= count;
    });
    if (!any) continue;
    const Tensor whole = unpacked(plan.constants[c]);
    for (Wanted& w : wanted) {
      if (w.place.constant >= 0 || w.compared.count() > whole.count()) continue;
      check_guard();
      if (find_flat(whole, w) || find_columns(whole, w) || find_layer(whole, w)) {
        w.place.constant = static_cast<int32_t>(c);
        w.compared = {};
      }
    }
  }
}

}  // namespace

void attach_source(const Graph& model, Plan& plan) {
  for (const Node& n : model.nodes()) {
    if (!n.subgraphs.empty()) return;  // comparisons do not enter sub-graphs yet
  }
  std::vector<Wanted> wanted;
  plan.source.graph = write_archive(model, [&](const Value& v) {
    const Tensor& t = *v.fact.constant;
    wanted.push_back({t, is_half(t.dtype()) ? narrow(widen(t), DType::f32) : t});
    return static_cast<int64_t>(wanted.size() - 1);
  });
  find_all(plan, wanted);
  for (Wanted& w : wanted) {
    w.place.dtype = w.tensor.dtype();
    w.place.shape = w.tensor.shape();
    if (w.place.constant < 0) {
      w.place.constant = static_cast<int32_t>(plan.constants.size());
      plan.constants.push_back({"", w.tensor, {}});
    }
    plan.source.weights.push_back(w.place);
  }
}

}  // namespace planck
