#include "runtime/memory.h"

#include <algorithm>

#include "base/checked.h"
#include "base/guard.h"

namespace planck {
namespace {

constexpr int64_t kAlign = 64;

void check_window(const BoundValue& v, int64_t elements, const std::string& name) {
  if (v.count() == 0) return;
  int64_t first = v.offset, last = v.offset;  // strides may be negative
  for (size_t i = 0; i < v.shape.size(); ++i) {
    const int64_t reach = checked_mul(v.shape[i] - 1, v.strides[i]);
    int64_t& end = reach < 0 ? first : last;
    end = checked_add(end, reach);
  }
  if (first < 0 || last >= elements) {
    const std::string what = name.empty() ? "a tensor" : cat("'", name, "'");
    throw RunError(what, " of shape ", shape_text(v.shape), " reaches elements ", first, " to ",
                   last, " of a buffer of ", elements, ": an index is outside its axis");
  }
}

struct Lifetime {
  int32_t buffer;
  int64_t bytes;
  size_t first = SIZE_MAX, last = 0;  // steps
};

// Of all buffers; those of other phases are never alive.
std::vector<Lifetime> lifetimes(const Plan& plan, const Bindings& bindings, const Phases& phases,
                                size_t phase) {
  std::vector<Lifetime> all(plan.buffers.size());
  std::vector<bool> mine(all.size(), false);
  for (size_t i = 0; i < all.size(); ++i) {
    const PlanBuffer& b = plan.buffers[i];
    all[i] = {static_cast<int32_t>(i), kAlign};
    mine[i] = !phases.late() || (phases.birth[i] == phase && is_known(b.elements, bindings));
    if (!mine[i]) continue;
    const int64_t bytes = checked_mul(b.elements.eval(bindings), b.element_size);
    all[i].bytes = round_up(std::max<int64_t>(bytes, 1), kAlign);
  }
  for (size_t s = phases.list[phase].first; s < plan.steps.size(); ++s) {
    for (const auto* ids : {&plan.steps[s].inputs, &plan.steps[s].outputs}) {
      for (const int32_t v : *ids) {
        if (v < 0) continue;
        const auto buffer = static_cast<size_t>(plan.values[static_cast<size_t>(v)].buffer);
        if (!mine[buffer]) continue;
        Lifetime& life = all[buffer];
        life.first = std::min(life.first, s);
        life.last = std::max(life.last, s);
      }
    }
  }
  return all;
}

// Inputs are the caller's memory, constants the plan's.
bool made_by_run(const Plan& plan, const PlanValue& v) {
  const BufferKind kind = plan.buffers[static_cast<size_t>(v.buffer)].kind;
  return kind == BufferKind::arena || kind == BufferKind::output;
}

BoundValue bound(const Plan& plan, const Bindings& bindings, const PlanValue& v, bool may_be_late,
                 int64_t most_bytes) {
  BoundValue b;
  b.dtype = v.dtype;
  b.buffer = v.buffer;
  if (may_be_late && !is_known(v, bindings)) {
    b.late = true;
    b.shape.resize(v.shape.size());
    return b;
  }
  b.offset = v.offset.eval(bindings);
  for (const Dim& d : v.shape) b.shape.push_back(d.eval(bindings));
  for (const Dim& d : v.strides) b.strides.push_back(d.eval(bindings));
  if (made_by_run(plan, v)) {
    const int64_t bytes = saturated_bytes(b.shape, size_of(b.dtype));
    within("max_tensor_bytes", most_bytes, bytes, "bytes of a tensor");
  }
  checked_mul(b.count(), size_of(b.dtype), "tensor bytes");
  const Dim& elements = plan.buffers[static_cast<size_t>(v.buffer)].elements;
  check_window(b, elements.eval(bindings), v.name);
  return b;
}

// Values that a binding of the phase needs: all of a plan that has no other.
std::vector<bool> touched(const Plan& plan, const Phases& phases, size_t phase) {
  std::vector<bool> out(plan.values.size(), !phases.late());
  for (size_t s = phases.list[phase].first; s < phases.list[phase].end; ++s) {
    for (const auto* ids : {&plan.steps[s].inputs, &plan.steps[s].outputs}) {
      for (const int32_t v : *ids) {
        if (v >= 0) out[static_cast<size_t>(v)] = true;
      }
    }
  }
  for (const PlanPort& p : plan.outputs) {
    const auto v = static_cast<size_t>(p.value);
    if (phases.birth[static_cast<size_t>(plan.values[v].buffer)] == phase) out[v] = true;
  }
  return out;
}

}  // namespace

std::vector<BoundValue> bind_values(const Plan& plan, const Bindings& bindings,
                                    const Phases& phases, size_t phase) {
  const int64_t most = current_limits().max_tensor_bytes;
  const std::vector<bool> wanted = touched(plan, phases, phase);
  std::vector<BoundValue> out(plan.values.size());
  try {
    for (size_t i = 0; i < out.size(); ++i) {
      if (wanted[i]) out[i] = bound(plan, bindings, plan.values[i], phases.late(), most);
    }
    return out;
  } catch (const GraphError& e) {  // the plan was verified: the extents of this run are too large
    throw with(LimitError("the shapes of this run are too large: ", e.what()),
               {.hint = "feed smaller shapes",
                .limit = current_limits().max_tensor_bytes,
                .need = INT64_MAX,
                .option = "max_tensor_bytes"});
  }
}

MemoryPlan plan_memory(const Plan& plan, const Bindings& bindings, const Phases& phases,
                       size_t phase) {
  std::vector<Lifetime> all = lifetimes(plan, bindings, phases, phase);
  std::erase_if(all, [&](const Lifetime& l) {
    return plan.buffers[static_cast<size_t>(l.buffer)].kind != BufferKind::arena ||
           l.first == SIZE_MAX;
  });
  std::ranges::stable_sort(all, std::greater{}, &Lifetime::bytes);
  MemoryPlan out;
  out.offsets.assign(plan.buffers.size(), 0);
  std::vector<const Lifetime*> placed;  // sorted by offset
  const auto offset_of = [&](const Lifetime* l) {
    return out.offsets[static_cast<size_t>(l->buffer)];
  };
  for (const Lifetime& mine : all) {
    check_guard();
    int64_t at = 0;
    for (const Lifetime* other : placed) {
      if (other->last < mine.first || mine.last < other->first) continue;
      if (at + mine.bytes <= offset_of(other)) break;
      at = std::max(at, offset_of(other) + other->bytes);
    }
    out.offsets[static_cast<size_t>(mine.buffer)] = at;
    out.bytes = std::max(out.bytes, checked_add(at, mine.bytes));
    placed.insert(std::ranges::upper_bound(placed, at, {}, offset_of), &mine);
  }
  return out;
}

}  // namespace planck
