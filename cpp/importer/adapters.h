#pragma once
#include "importer/draft.h"

namespace planck::importer {

// Rewrites a node of the given opset to the newest opset's meaning; nodes that must come first are
// emitted. The draft's remaining attributes are what the op's own reader gets.
void adapt(Draft& draft, int64_t opset, Emitter& emit);

// Why an op of this name is missing, or what to do; empty if there is nothing to say.
std::string hint_for(std::string_view domain, std::string_view op);

}  // namespace planck::importer
