#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/dim.h"

namespace planck::importer {

// Symbols for the names that a model gives to dimensions. Equal names are the same symbol, others
// never are, and every symbol can be read back from text.
class DimNames {
 public:
  // fixed: names that stand for a number.
  explicit DimNames(std::map<std::string, int64_t> fixed) : fixed_(std::move(fixed)) {}
  Dim named(const std::string& name);                   // dim_param
  Dim unknown(const std::string& input, int64_t axis);  // "?input:axis"

 private:
  Dim symbol(const std::string& key, const std::string& wish);
  std::map<std::string, int64_t> fixed_;
  std::map<std::string, std::string> symbols_;
  std::set<std::string> taken_;
};

}  // namespace planck::importer
