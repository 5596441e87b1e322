#include "plan/phases.h"

#include <algorithm>

namespace planck {
namespace {

void learn(const std::vector<Dim>& dims, Symbols& known) {
  for (const Dim& d : dims) {
    if (const std::string_view symbol = d.as_symbol(); !symbol.empty()) known.emplace(symbol);
  }
}

}  // namespace

Symbols input_symbols(const Plan& plan) {
  Symbols known;
  for (const PlanPort& p : plan.inputs) learn(p.shape, known);
  return known;
}

Phases one_phase(const Plan& plan) {
  return {{{0, plan.steps.size()}}, std::vector<size_t>(plan.buffers.size(), 0)};
}

Phases phases_of(const Plan& plan) {
  Symbols known = input_symbols(plan);
  Phases out{{{}}, std::vector<size_t>(plan.buffers.size(), 0)};
  std::vector<bool> touched(plan.buffers.size(), false);
  const auto touch = [&](int32_t id) {
    if (id < 0) return;
    const auto b = static_cast<size_t>(plan.values[static_cast<size_t>(id)].buffer);
    if (!touched[b]) out.birth[b] = out.list.size() - 1;
    touched[b] = true;
  };
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    const Step& step = plan.steps[s];
    std::ranges::for_each(step.inputs, touch);
    std::ranges::for_each(step.outputs, touch);
    out.list.back().end = s + 1;
    bool late = false;
    for (const int32_t id : step.outputs) {
      if (id < 0) continue;
      const PlanValue& v = plan.values[static_cast<size_t>(id)];
      if (is_known(v, known)) continue;
      late = true;
      learn(v.shape, known);
    }
    if (late) out.list.push_back({s + 1, s + 1});
  }
  return out;
}

}  // namespace planck
