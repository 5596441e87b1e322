#pragma once
// Where every buffer of the arena lies for one set of shapes.
#include <cstdint>
#include <vector>

#include "backends/bind.h"
#include "plan/phases.h"
#include "plan/plan.h"

namespace planck {

struct MemoryPlan {
  std::vector<int64_t> offsets;  // bytes, of each plan buffer that is in the arena; else 0
  int64_t bytes = 0;             // of the whole arena
};

// Concrete shapes, strides and offsets of the values that the steps of a phase touch. Those whose
// shape has a symbol without a number are late. Throws RunError where a window leaves its buffer,
// LimitError where a tensor is beyond the limit max_tensor_bytes or beyond 64 bits.
std::vector<BoundValue> bind_values(const Plan& plan, const Bindings& bindings,
                                    const Phases& phases, size_t phase = 0);

// Greedy by size: the largest buffers choose their place first, at the lowest offset that no
// buffer alive at the same time holds. Of a phase: the buffers that it touches first; what is late
// brings its own memory.
MemoryPlan plan_memory(const Plan& plan, const Bindings& bindings, const Phases& phases,
                       size_t phase = 0);

}  // namespace planck
