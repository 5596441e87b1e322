#pragma once
// One visitor for each struct: T::fields(self, visit) names every field once.
// Goals: a field is added in one place; equality, hashing and files use the same bytes; a file that
// only declares fields compiles no JSON.
// Non-goals: pointers, cycles, tensors (constants belong to values, not to attributes).
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/dim.h"

namespace planck {

// Complete only where nlohmann/json.hpp is included: text form, importer, files, bindings.
using Json = nlohmann::json;

// One value, strictly; GraphError says what it is instead.
void read(const Json& json, int64_t& value);
void read(const Json& json, double& value);
void read(const Json& json, std::string& value);
void read(const Json& json, Dim& value);
void read(const Json& json, std::vector<int64_t>& value);

// Reads the fields of one object, strictly: 1.5 is no integer, "1" is no number, and what the
// struct does not name is an error. GraphError names the attribute and its owner.
class FieldReader {
 public:
  FieldReader(const Json& json, std::string_view owner) : json_(json), owner_(owner) {}
  void operator()(const char* name, int64_t& value);
  void operator()(const char* name, double& value);
  void operator()(const char* name, std::string& value);
  void operator()(const char* name, Dim& value);
  void operator()(const char* name, std::vector<int64_t>& value);
  void operator()(const char* name, std::vector<double>& value);
  void operator()(const char* name, std::vector<std::string>& value);
  void operator()(const char* name, std::vector<Dim>& value);
  void finish() const;

 private:
  const Json& json_;
  std::string_view owner_;
  std::vector<std::string_view> seen_;

  template <class T>
  void field(const char* name, T& value);
};

// Writes the fields of one object, defaults included.
class FieldWriter {
 public:
  explicit FieldWriter(Json& json) : json_(json) {}
  void operator()(const char* name, int64_t value);
  void operator()(const char* name, double value);
  void operator()(const char* name, const std::string& value);
  void operator()(const char* name, const Dim& value);
  void operator()(const char* name, const std::vector<int64_t>& value);
  void operator()(const char* name, const std::vector<double>& value);
  void operator()(const char* name, const std::vector<std::string>& value);
  void operator()(const char* name, const std::vector<Dim>& value);

 private:
  Json& json_;
};

template <class T>
T from_json(const Json& json) {
  T self;  // absent fields keep their defaults
  FieldReader reader(json, T::kName);
  T::fields(self, reader);
  reader.finish();
  return self;
}

}  // namespace planck
