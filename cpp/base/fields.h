#pragma once
// One visitor for each struct: T::fields(self, visit) names every field once.
// Goals: a field is added in one place; equality, hashing and files use the same bytes.
// Non-goals: pointers, cycles, tensors (constants belong to values, not to attributes).
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace planck {

using Json = nlohmann::json;

// Strict readers: 1.5 is no integer and "1" is no number.
inline void read(const Json& json, int64_t& value) {
  if (!json.is_number_integer()) throw GraphError(json, " is not an integer");
  value = json.get<int64_t>();
}
inline void read(const Json& json, double& value) {
  if (!json.is_number()) throw GraphError(json, " is not a number");
  value = json.get<double>();
}
inline void read(const Json& json, std::string& value) {
  if (!json.is_string()) throw GraphError(json, " is not a string");
  value = json.get<std::string>();
}
template <class T>
void read(const Json& json, std::vector<T>& value) {
  if (!json.is_array()) throw GraphError(json, " is not a list");
  value.clear();
  for (const Json& item : json) read(item, value.emplace_back());
}

template <class T>
Json to_json(const T& self) {
  Json json = Json::object();
  T::fields(self, [&](const char* name, const auto& value) { json[name] = value; });
  return json;
}

// Strict: an unknown or mistyped attribute is the model's fault, never ignored.
template <class T>
T from_json(Json json) {
  T self;  // absent fields keep their defaults
  T::fields(self, [&](const char* name, auto& value) {
    if (!json.contains(name)) return;
    with_context([&] { read(json[name], value); }, "attribute '", name, "' of ", T::kName);
    json.erase(name);
  });
  if (!json.empty()) {
    throw GraphError(T::kName, " has no attribute ", json.begin().key());
  }
  return self;
}

}  // namespace planck
