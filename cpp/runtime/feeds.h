#pragma once
#include <span>
#include <vector>

#include "runtime/session.h"

namespace planck {

// Feeds in the order of the plan's inputs. Throws FeedError, naming the input, what was expected
// and what came: unknown and missing names, types, ranks, extents.
void match_feeds(const Plan& plan, std::span<const Feed> feeds, std::vector<const Feed*>& matched);

// Values of all symbols in the input shapes; FeedError where two inputs disagree.
Bindings bind_symbols(const Plan& plan, std::span<const Feed* const> matched);

// "int64[batch,length]" of an input.
std::string port_text(const PlanPort& port);

}  // namespace planck
