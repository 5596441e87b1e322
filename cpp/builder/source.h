#pragma once
#include "ir/graph.h"
#include "plan/plan.h"

namespace planck {

// Puts the model as it was imported into the plan: its graph, and for each initializer the place
// where the plan's constants hold the same numbers. They are found by contents, so that no pass has
// to keep a record; one that is nowhere (it was folded into something else) becomes a constant of
// its own. `model` is the graph before the passes.
void attach_source(const Graph& model, Plan& plan);

}  // namespace planck
