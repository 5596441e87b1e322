#pragma once
// How to mend a refusal of what is known only in a run. Callers of ours know it by this text.

namespace planck {

inline constexpr const char* kNeedsValues =
    "give inputs that decide shapes when the plan is built: initializers={name: array}";

}  // namespace planck
