// What a run takes, from a binding that nobody runs.
#include <algorithm>
#include <functional>
#include <set>
#include <tuple>

#include "base/checked.h"
#include "runtime/context.h"

namespace planck {
namespace {

int64_t bytes_of(const BoundValue& v) { return v.count() * size_of(v.dtype); }

int64_t bytes_of(const std::vector<PlanPort>& ports, const Binding& binding) {
  int64_t sum = 0;
  for (const PlanPort& p : ports) {
    sum = checked_add(sum, bytes_of(binding.values[static_cast<size_t>(p.value)]));
  }
  return sum;
}

// The largest value of each buffer, of equal ones the first that has a name.
std::vector<TensorNeed> tensors_by_size(const Plan& plan, const Binding& binding) {
  std::vector<size_t> order;
  for (size_t i = 0; i < plan.values.size(); ++i) {
    const auto buffer = static_cast<size_t>(plan.values[i].buffer);
    if (plan.buffers[buffer].kind != BufferKind::constant) order.push_back(i);
  }
  std::ranges::stable_sort(order, {}, [&](size_t i) {
    return std::tuple(-bytes_of(binding.values[i]), plan.values[i].name.empty());
  });
  std::set<int32_t> seen;
  std::vector<TensorNeed> out;
  for (const size_t i : order) {
    const BoundValue& v = binding.values[i];
    if (!seen.insert(v.buffer).second) continue;
    const BufferKind kind = plan.buffers[static_cast<size_t>(v.buffer)].kind;
    out.push_back({plan.values[i].name, kind, v.dtype, v.shape, bytes_of(v)});
  }
  return out;
}

}  // namespace

MemoryNeed memory_need(const Plan& plan, const Bindings& bindings) {
  const Phases phases = phases_of(plan);
  if (phases.late()) {
    throw UnsupportedError("what a run takes is not known before it: shapes depend on data");
  }
  const std::unique_ptr<Binding> binding = make_binding(plan, bindings, phases);
  MemoryNeed need;
  need.arena_bytes = Arena::mapped(binding->memory.bytes);
  need.packed_bytes = binding->memory.bytes;
  need.scratch_bytes = binding->scratch_bytes;
  need.constant_bytes = plan.constant_bytes();
  need.input_bytes = bytes_of(plan.inputs, *binding);
  need.output_bytes = bytes_of(plan.outputs, *binding);
  need.tensors = tensors_by_size(plan, *binding);
  return need;
}

}  // namespace planck
