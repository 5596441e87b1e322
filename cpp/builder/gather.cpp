#include "builder/gather.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/guard.h"

namespace planck {
namespace {

constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kLine = 64;
constexpr int64_t kOwnPages = 2 * kHugePage;  // Tensor::make gives such a tensor pages of its own
// Not worth a second copy beside the model's own where it was not packed: one row of it is read, or
// a few.
constexpr int64_t kMostUnpacked = 256 << 10;

bool moves(const PlanConstant& constant) {
  const int64_t most = constant.packing.kernel.empty() ? kMostUnpacked : kOwnPages;
  return constant.tensor.bytes() > 0 && constant.tensor.bytes() < most;
}

// Constants in the order of the steps that read them first.
std::vector<PlanConstant*> in_order(Plan& plan) {
  std::vector<bool> seen(plan.constants.size());
  std::vector<PlanConstant*> order;
  for (const Step& step : plan.steps) {
    for (const int32_t value : step.inputs) {
      if (value < 0) continue;
      const int32_t buffer = plan.values[static_cast<size_t>(value)].buffer;
      const PlanBuffer& b = plan.buffers[static_cast<size_t>(buffer)];
      const auto index = static_cast<size_t>(b.index);
      if (b.kind != BufferKind::constant || seen[index]) continue;
      seen[index] = true;
      if (moves(plan.constants[index])) order.push_back(&plan.constants[index]);
    }
  }
  return order;
}

}  // namespace

void gather_constants(Plan& plan) {
  const std::vector<PlanConstant*> order = in_order(plan);
  int64_t bytes = 0;
  for (const PlanConstant* c : order) {
    bytes = checked_add(bytes, round_up(c->tensor.bytes(), kLine), "bytes of constants");
  }
  if (bytes < kHugePage) return;
  const auto whole = static_cast<size_t>(round_up(bytes, kHugePage));
  auto* at = static_cast<std::byte*>(std::aligned_alloc(kHugePage, whole));
  if (at == nullptr) return;  // they stay where they are
  const Owner block(at, [](const void* p) { std::free(const_cast<void*>(p)); });
  madvise(at, whole, MADV_HUGEPAGE);
  for (PlanConstant* c : order) {
    check_guard();
    const Tensor& from = c->tensor;
    std::memcpy(at, from.data(), static_cast<size_t>(from.bytes()));
    const int64_t step = round_up(from.bytes(), kLine);
    c->tensor = Tensor(from.dtype(), from.shape(), at, block);
    at += step;
  }
}

}  // namespace planck
