#include "base/nearest.h"

#include <algorithm>
#include <numeric>

namespace planck {
namespace {

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

bool contains(const std::string& a, const std::string& b) {
  return !b.empty() && a.find(b) != std::string::npos;
}

}  // namespace

std::vector<std::string> nearest_names(const std::string& name, std::span<const std::string> known,
                                       size_t count) {
  constexpr size_t kLongest = 200;  // characters; longer names are compared by their beginning
  struct Near {
    size_t cost;
    std::string name;
  };
  std::vector<Near> all;
  const std::string wanted = lower(name.substr(0, kLongest));
  for (const std::string& candidate : known) {
    const std::string other = lower(candidate.substr(0, kLongest));
    const size_t apart = distance(wanted, other);
    if (contains(wanted, other) || contains(other, wanted)) {
      all.push_back({apart, candidate});
    } else if (2 * apart <= std::max(wanted.size(), other.size())) {
      all.push_back({apart + kLongest, candidate});
    }
  }
  std::ranges::stable_sort(all, {}, &Near::cost);
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(count, all.size()); ++i) names.push_back(all[i].name);
  return names;
}

}  // namespace planck
