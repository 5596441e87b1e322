#pragma once
// A whole graph by its ops' references: what tests and comparisons hold against other results.
#include <span>
#include <vector>

#include "ir/graph.h"

namespace planck {

// Outputs for `inputs`, in the graph's order. Symbols get their values from the inputs' shapes,
// those that only the run knows from the results that they describe. FeedError for a wrong number
// of inputs or a shape that the graph does not allow; UnsupportedError for sub-graphs.
std::vector<Wide> evaluate_graph(const Graph& g, std::span<const Wide> inputs);

}  // namespace planck
