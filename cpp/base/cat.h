#pragma once
#include <sstream>
#include <string>

namespace planck {

// Joins printable parts. g++ 12 has no std::format, so this is the one way to build a message.
std::string cat(const auto&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// "a, b, c" of any range of printable things.
std::string joined(const auto& range, const char* separator = ", ") {
  std::ostringstream out;
  bool first = true;
  for (const auto& item : range) {
    if (!first) out << separator;
    out << item;
    first = false;
  }
  return out.str();
}

}  // namespace planck
