#pragma once
// What adapters and expansions take out of a draft; GraphError where it is not as ONNX says.
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "importer/draft.h"

namespace planck::importer {

using Ints = std::vector<int64_t>;

// Takes an attribute out of the draft; nothing if it is not there. GraphError on another type.
template <class T>
std::optional<T> taken(Draft& draft, const char* name) {
  if (!draft.attrs.contains(name)) return std::nullopt;
  T value{};
  with_context([&] { read(draft.attrs[name], value); }, "attribute '", name, "' of ", draft.op);
  draft.attrs.erase(name);
  return value;
}

template <class T>
T needed(Draft& draft, const char* name) {
  const std::optional<T> value = taken<T>(draft, name);
  if (!value) throw GraphError(draft.op, " needs the attribute ", name);
  return *value;
}

inline bool taken_flag(Draft& draft, const char* name) {
  return taken<int64_t>(draft, name).value_or(0) != 0;
}

// The draft has this many inputs so far: what the attributes become goes behind them.
void need_inputs(const Draft& draft, size_t count);

}  // namespace planck::importer
