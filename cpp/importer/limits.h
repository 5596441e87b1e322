#pragma once
#include "base/error.h"
#include "importer/importer.h"

namespace planck::importer {

// fields.items: limit, need, option, as every LimitError has them.
[[noreturn]] inline void over_limit(const char* option, int64_t limit, const std::string& need) {
  throw with(LimitError("the model needs ", need, "; the limit ", option, " is ", limit),
             {.hint = cat("raise limits.", option, " if you trust this model"),
              .items = {cat(limit), need, option}});
}

inline void within(const char* option, int64_t limit, int64_t need, const char* what) {
  if (need > limit) over_limit(option, limit, cat(need, ' ', what));
}

}  // namespace planck::importer
