#pragma once
#include "base/error.h"
#include "importer/importer.h"

namespace planck::importer {

inline void within(const char* option, int64_t limit, int64_t need, const char* what) {
  if (need <= limit) return;
  throw with(LimitError("the model needs ", need, ' ', what, "; the limit ", option, " is ", limit),
             {.hint = cat("raise limits.", option, " if you trust this model"),
              .limit = limit,
              .need = need,
              .option = option});
}

}  // namespace planck::importer
