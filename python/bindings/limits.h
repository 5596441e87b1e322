#pragma once
#include "base/limits.h"
#include "bindings.h"

namespace planck {

// {"profile": "tight", "rank": 8, ...}. UsageError for what is no limit or out of its range.
Limits limits_from(const py::dict& given);

// UsageError for what does not fit 64 bits.
int64_t whole_number(const std::string& name, const py::handle& value);

}  // namespace planck
