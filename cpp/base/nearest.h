#pragma once
#include <span>
#include <string>
#include <vector>

namespace planck {

// Up to `count` of the known names that are most like `name`, the likest first: for messages about
// a name that is not there. Likeness is Levenshtein's distance, case aside; a name that is
// contained in the other comes before any that is not. Empty where more than half of the name
// differs.
std::vector<std::string> nearest_names(const std::string& name, std::span<const std::string> known,
                                       size_t count = 3);

}  // namespace planck
