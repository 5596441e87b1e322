#pragma once
// Small values that follow from the model alone: conditions of If and Loop, counts of trips. The
// importer asks, since which nodes there are depends on them; folding comes later.
#include <map>
#include <optional>

#include "ir/graph.h"

namespace planck::importer {

class KnownValues {
 public:
  // Of one graph that only grows: what was found once is kept.
  explicit KnownValues(const Graph& graph) : graph_(graph) {}
  // The value, if constants and extents that are numbers give it; null otherwise.
  const Wide* find(ValueId v);
  // Its only element, in whole numbers or flags.
  std::optional<int64_t> number(ValueId v);

 private:
  bool take(ValueId v);
  bool compute(const Node& n);

  const Graph& graph_;
  std::map<ValueId, std::optional<Wide>> values_;  // nothing: not known
};

}  // namespace planck::importer
