#pragma once
// Shapes that depend on data: a plan runs in phases, cut behind each step that makes a tensor whose
// extents only its own run knows (NonZero, a Range up to a computed number). Memory and jobs of a
// phase are made when the extents that it needs are there. What is cut where follows from the
// symbols, so that a plan file says nothing about it.
#include <algorithm>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "plan/plan.h"

namespace planck {

struct Phase {
  size_t first = 0, end = 0;  // steps
};

struct Phases {
  std::vector<Phase> list;    // at least one; all but the last end in a step with late outputs
  std::vector<size_t> birth;  // of each buffer: the phase whose steps touch it first
  bool late() const { return list.size() > 1; }
};

Phases phases_of(const Plan& plan);
// The plan in one piece, for a run whose extents are all known.
Phases one_phase(const Plan& plan);

using Symbols = std::set<std::string, std::less<>>;
// What the shapes of the inputs name.
Symbols input_symbols(const Plan& plan);
// Whether the known symbols (a set, or Bindings) give the number.
bool is_known(const Dim& d, const auto& known) {
  return d.is_constant() || std::ranges::all_of(d.symbols(), [&](const std::string& symbol) {
           return known.contains(symbol);
         });
}
// The same of shape, strides and offset.
bool is_known(const PlanValue& v, const auto& known) {
  const auto here = [&](const Dim& d) { return is_known(d, known); };
  return here(v.offset) && std::ranges::all_of(v.shape, here) &&
         std::ranges::all_of(v.strides, here);
}

}  // namespace planck
