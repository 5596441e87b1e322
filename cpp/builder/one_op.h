#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/fields.h"
#include "plan/plan.h"

namespace planck {

// A plan of one op, so that each kernel row can be tested against the op's reference. Input 0, and
// the second operand of a product, are fed; the others are constants. An empty kernel leaves the
// choice to the builder; UsageError for a row that refuses.
Plan plan_one_op(const std::string& op, const Json& attrs,
                 const std::vector<std::optional<Tensor>>& inputs, size_t outputs,
                 const std::string& kernel);

}  // namespace planck
