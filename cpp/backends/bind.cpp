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

std::string BindContext::nodes_text(const Step& step) const {
  constexpr size_t kMost = 3;
  std::vector<std::string> names;
  for (size_t i = 0; i < step.nodes.size() && i < kMost; ++i) {
    names.push_back(plan.nodes[static_cast<size_t>(step.nodes[i])].name);
  }
  return cat(step.op, " (", joined(names, " + "), ")");
}

}  // namespace planck
