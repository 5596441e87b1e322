// Steps of every family on the CPU: fills the family's arguments from bound shapes and strides.
#include "backends/bind.h"

#include "backends/contract.h"
#include "backends/cpu/families.h"
#include "base/checked.h"

namespace planck {

BoundStep bind_cpu(const BindContext& context, const Step& step) {
  check_contract(context, step);
  return std::visit([&](const auto& params) { return bind(context, step, params); }, step.params);
}

BoundStep bind(const BindContext& context, const Step& step, const ReferenceParams&) {
  return bind_reference(context, step);
}

}  // namespace planck
