#include "base/limits.h"

#include <vector>

namespace planck {
namespace {

// "64 MiB", "100".
std::string amount(int64_t value, std::string_view unit) {
  if (unit != "bytes" || value == 0) return cat(value);
  constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  size_t at = 0;
  int64_t rounded = value == 2 * kGiB - 1 ? value + 1 : value;
  for (; at + 1 < std::size(kUnits) && rounded % kKiB == 0; ++at) rounded /= kKiB;
  return cat(rounded, ' ', kUnits[at]);
}
std::string amount(double value, std::string_view) {
  return value == 0 ? "none" : value == kYear ? "a year" : cat(value, " s");
}

std::string names() {
  std::vector<std::string> all;
  for (const LimitRow& row : limit_rows()) all.push_back(row.name);
  return joined(all);
}

template <class T>
T checked(std::string_view name, auto value, T most) {
  if (value >= 0 && value <= most) return static_cast<T>(value);
  throw with(UsageError("limits.", name, " is ", value, ", expected 0 to ", most),
             {.expected = cat("0 to ", most), .got = cat(value)});
}

template <class T>
void assign(std::string_view name, int64_t value, T& to, T most) {
  to = checked(name, value, most);
}
void assign(std::string_view name, double value, double& to, double most) {
  to = checked(name, value, most);
}
void assign(std::string_view name, double value, int64_t&, int64_t) {
  throw with(UsageError("limits.", name, " is ", value, ", expected an integer"),
             {.expected = "an integer", .got = cat(value)});
}

void assign_by_name(Limits& limits, std::string_view wanted, auto value) {
#define PLANCK_LIMIT(type, name, normal, tight, most, unit, doc) \
  if (wanted == #name) return assign(wanted, value, limits.name, type{most});
#include "base/limits.inc"
#undef PLANCK_LIMIT
  throw with(UsageError("there is no limit '", wanted, "'; there are ", names()),
             {.expected = names(), .got = std::string(wanted)});
}

}  // namespace

Limits Limits::tight() {
  Limits limits;
#define PLANCK_LIMIT(type, name, value, tight, most, unit, doc) limits.name = tight;
#include "base/limits.inc"
#undef PLANCK_LIMIT
  return limits;
}

void Limits::set(std::string_view name, int64_t value) { assign_by_name(*this, name, value); }
void Limits::set(std::string_view name, double value) { assign_by_name(*this, name, value); }

std::span<const LimitRow> limit_rows() {
  static const std::vector<LimitRow> rows = {
#define PLANCK_LIMIT(type, name, value, tight, most, unit, doc) \
  {#name,                                                       \
   amount(type{value}, unit),                                   \
   amount(type{tight}, unit),                                   \
   amount(type{most}, unit),                                    \
   unit,                                                        \
   doc,                                                         \
   std::string_view(unit) == "seconds"},
#include "base/limits.inc"
#undef PLANCK_LIMIT
  };
  return rows;
}

}  // namespace planck
