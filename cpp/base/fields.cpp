#include "base/fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace planck {

void read(const Json& json, int64_t& value) {
  if (!json.is_number_integer()) throw GraphError(json, " is not an integer");
  value = json.get<int64_t>();
}
void read(const Json& json, double& value) {
  if (!json.is_number()) throw GraphError(json, " is not a number");
  value = json.get<double>();
}
void read(const Json& json, std::string& value) {
  if (!json.is_string()) throw GraphError(json, " is not a string");
  value = json.get<std::string>();
}
void read(const Json& json, Dim& value) {
  if (json.is_number_integer()) {
    value = Dim(json.get<int64_t>());
  } else if (json.is_string()) {
    value = Dim::parse(json.get<std::string>());
  } else {
    throw GraphError(json, " is neither an integer nor a shape expression");
  }
}
namespace {

template <class T>
void read_list(const Json& json, std::vector<T>& value) {
  if (!json.is_array()) throw GraphError(json, " is not a list");
  value.clear();
  for (const Json& item : json) read(item, value.emplace_back());
}
void read(const Json& json, std::vector<double>& value) { read_list(json, value); }
void read(const Json& json, std::vector<std::string>& value) { read_list(json, value); }
void read(const Json& json, std::vector<Dim>& value) { read_list(json, value); }

Json written(const Dim& value) {
  return value.is_constant() ? Json(value.constant()) : Json(value.text());
}

}  // namespace

void read(const Json& json, std::vector<int64_t>& value) { read_list(json, value); }

template <class T>
void FieldReader::field(const char* name, T& value) {
  seen_.emplace_back(name);
  const auto at = json_.find(name);
  if (at == json_.end()) return;
  with_context([&] { read(*at, value); }, "attribute '", name, "' of ", owner_);
}

void FieldReader::operator()(const char* n, int64_t& v) { field(n, v); }
void FieldReader::operator()(const char* n, double& v) { field(n, v); }
void FieldReader::operator()(const char* n, std::string& v) { field(n, v); }
void FieldReader::operator()(const char* n, Dim& v) { field(n, v); }
void FieldReader::operator()(const char* n, std::vector<int64_t>& v) { field(n, v); }
void FieldReader::operator()(const char* n, std::vector<double>& v) { field(n, v); }
void FieldReader::operator()(const char* n, std::vector<std::string>& v) { field(n, v); }
void FieldReader::operator()(const char* n, std::vector<Dim>& v) { field(n, v); }

void FieldReader::finish() const {
  for (const auto& item : json_.items()) {
    if (std::ranges::find(seen_, std::string_view(item.key())) == seen_.end()) {
      throw GraphError(owner_, " has no attribute ", item.key());
    }
  }
}

void FieldWriter::operator()(const char* n, int64_t v) { json_[n] = v; }
void FieldWriter::operator()(const char* n, double v) { json_[n] = v; }
void FieldWriter::operator()(const char* n, const std::string& v) { json_[n] = v; }
void FieldWriter::operator()(const char* n, const Dim& v) { json_[n] = written(v); }
void FieldWriter::operator()(const char* n, const std::vector<int64_t>& v) { json_[n] = v; }
void FieldWriter::operator()(const char* n, const std::vector<double>& v) { json_[n] = v; }
void FieldWriter::operator()(const char* n, const std::vector<std::string>& v) { json_[n] = v; }
void FieldWriter::operator()(const char* n, const std::vector<Dim>& v) {
  Json list = Json::array();
  for (const Dim& d : v) list.push_back(written(d));
  json_[n] = std::move(list);
}

}  // namespace planck
