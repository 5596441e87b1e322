#include "importer/dim_names.h"

#include <cctype>

#include "base/cat.h"

namespace planck::importer {
namespace {

std::string readable(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const bool word = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.';
    out += word ? c : '_';
  }
  if (out.empty() || std::isdigit(static_cast<unsigned char>(out[0])) != 0) out.insert(0, "_");
  if (out == "min" || out == "max") out += '_';  // functions in shape expressions
  return out;
}

}  // namespace

Dim DimNames::symbol(const std::string& key, const std::string& wish) {
  const auto [it, fresh] = symbols_.try_emplace(key, wish);
  if (fresh) {
    for (int n = 2; !taken_.insert(it->second).second; ++n) it->second = cat(wish, '_', n);
  }
  return Dim::symbol(it->second);
}

Dim DimNames::named(const std::string& name) {
  const auto it = fixed_.find(name);
  return it != fixed_.end() ? Dim(it->second) : symbol(name, readable(name));
}

Dim DimNames::unknown(const std::string& input, int64_t axis) {
  const std::string suffix = cat(':', axis);
  return symbol(cat('?', input, suffix), cat('?', readable(input), suffix));
}

}  // namespace planck::importer
