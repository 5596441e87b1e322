#include "backends/bind.h"

#include "base/checked.h"

namespace planck {

int64_t BoundValue::count() const { return checked_count(shape); }

int64_t BoundValue::rows() const {
  return shape.empty() ? 1 : checked_count(std::span(shape).first(shape.size() - 1));
}

int64_t BoundValue::row_stride() const {
  for (size_t i = shape.size(); i-- > 1;) {
    if (shape[i - 1] != 1) return strides[i - 1];
  }
  return columns();
}

bool BoundValue::has_planes() const {
  if (rank() != 4) return false;
  const bool columns_fit = shape[2] == 1 || strides[2] == 1;
  return columns_fit && (shape[1] == 1 || strides[1] == shape[2]);
}

void BindContext::expect_broadcast(const Step& step, int32_t id,
                                   std::span<const int64_t> shape) const {
  if (id < 0) return;
  const Shape& from = at(id).shape;
  bool fits = from.size() <= shape.size();
  for (size_t i = 0; fits && i < from.size(); ++i) {
    const int64_t to = shape[shape.size() - from.size() + i];
    fits = from[i] == 1 || from[i] == to;
  }
  if (fits) return;
  throw with(RunError("shapes ", shape_text(from), " and ", shape_text(shape),
                      " do not broadcast in ", nodes_text(step)),
             {.expected = shape_text(shape), .got = shape_text(from)});
}

std::string BindContext::nodes_text(const Step& step) const {
  return cat(step.op, " (", step_names(plan, step), ")");
}

std::string step_names(const Plan& plan, const Step& step) {
  constexpr size_t kMost = 3;
  std::vector<std::string> names;
  for (size_t i = 0; i < step.nodes.size() && i < kMost; ++i) {
    names.push_back(plan.nodes[static_cast<size_t>(step.nodes[i])].name);
  }
  return joined(names, " + ");
}

}  // namespace planck
