#pragma once
// Names that people type: patterns that select them, and what a misspelt one may have meant.
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace planck {

// '*' stands for any characters, '?' for one; every other character for itself.
bool matches_pattern(std::string_view pattern, std::string_view name);

// Up to `count` names, nearest first by edit distance; equals keep their order.
std::vector<std::string> nearest_names(std::string_view wanted, std::span<const std::string> names,
                                       size_t count = 3);

}  // namespace planck
