#pragma once
// What a model, a plan file and a run may ask for: base/limits.inc. A LimitError names the limit,
// what was needed, and the option that raises it.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace planck {

inline constexpr int64_t kKiB = 1024, kMiB = kKiB * kKiB, kGiB = kMiB * kKiB, kTiB = kGiB * kKiB;
inline constexpr double kYear = 366 * 24 * 3600.0;

struct Limits {
#define PLANCK_LIMIT(type, name, value, tight, most, unit, doc) type name = value;
#include "base/limits.inc"
#undef PLANCK_LIMIT

  static Limits tight();  // for input that nobody vouches for
  // UsageError for a name that is none, listing them, and for a number that is out of range.
  void set(std::string_view name, int64_t value);
  void set(std::string_view name, double value);  // seconds
};

// A row of the table, as text for documents: "2 GiB", "none".
struct LimitRow {
  std::string name, normal, tight, most, unit, doc;
  bool seconds = false;
};
std::span<const LimitRow> limit_rows();

// LimitError if need > limit.
inline void within(const char* option, int64_t limit, int64_t need, std::string_view what) {
  if (need <= limit) return;
  throw with(LimitError(need, ' ', what, ": more than the limit ", option, ", ", limit),
             {.hint = cat("raise limits.", option, ", ", limit, ", if you trust this input"),
              .limit = limit,
              .need = need,
              .option = option});
}

}  // namespace planck
