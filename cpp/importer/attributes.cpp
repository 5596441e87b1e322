#include "importer/attributes.h"

#include <nlohmann/json.hpp>

namespace planck::importer {
namespace {

using A = onnx::AttributeProto;

// Types whose field is filled.
std::vector<AttributeType> filled(const A& a) {
  std::vector<AttributeType> out;
  const auto add = [&](bool is, AttributeType type) {
    if (is) out.push_back(type);
  };
  add(a.has_f(), A::FLOAT);
  add(a.has_i(), A::INT);
  add(a.has_s(), A::STRING);
  add(a.has_t(), A::TENSOR);
  add(a.has_g(), A::GRAPH);
  add(a.has_tp(), A::TYPE_PROTO);
  add(a.has_sparse_tensor(), A::SPARSE_TENSOR);
  add(a.floats_size() > 0, A::FLOATS);
  add(a.ints_size() > 0, A::INTS);
  add(a.strings_size() > 0, A::STRINGS);
  add(a.tensors_size() > 0, A::TENSORS);
  add(a.graphs_size() > 0, A::GRAPHS);
  add(a.sparse_tensors_size() > 0, A::SPARSE_TENSORS);
  add(a.type_protos_size() > 0, A::TYPE_PROTOS);
  return out;
}

// nlohmann::json throws its own exception for bytes that are not UTF-8, when it is printed.
std::string text(const std::string& bytes) {
  const Json json = bytes;
  if (json.dump(-1, ' ', false, Json::error_handler_t::ignore) !=
      json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    throw GraphError("a string attribute is not UTF-8");
  }
  return bytes;
}

Json plain(const A& a) {
  switch (type_of(a)) {
    case A::FLOAT:
      return double{a.f()};
    case A::INT:
      return a.i();
    case A::STRING:
      return text(a.s());
    case A::FLOATS:
      return std::vector<double>(a.floats().begin(), a.floats().end());
    case A::INTS:
      return std::vector<int64_t>(a.ints().begin(), a.ints().end());
    case A::STRINGS: {
      Json list = Json::array();
      for (const std::string& s : a.strings()) list.push_back(text(s));
      return list;
    }
    default:
      throw GraphError("an attribute of type ", static_cast<int>(type_of(a)), " has no place here");
  }
}

Tensor of_numbers(DType dtype, const Json& value) {
  const bool list = value.is_array();
  Wide wide(dtype, list ? Shape{static_cast<int64_t>(value.size())} : Shape{});
  const auto put = [&](size_t i, const Json& item) {
    if (wide.floating() ? !item.is_number_float() : !item.is_number_integer()) {
      throw GraphError("the value of a Constant has another type than its attribute says");
    }
    if (wide.floating()) {
      wide.real[i] = item.get<double>();
    } else {
      wide.integer[i] = item.get<int64_t>();
    }
  };
  if (!list) put(0, value);
  for (size_t i = 0; list && i < value.size(); ++i) put(i, value[i]);
  return narrow(wide);
}

}  // namespace

AttributeType type_of(const A& a) {
  const std::vector<AttributeType> types = filled(a);
  if (types.size() > 1) throw GraphError("the attribute '", a.name(), "' has several values");
  if (a.type() == A::UNDEFINED) {
    if (types.empty()) throw GraphError("the attribute '", a.name(), "' has no type");
    return types[0];
  }
  // Some writers leave out zeros and empty lists, so nothing filled is fine.
  if (!types.empty() && types[0] != a.type()) {
    throw GraphError("the attribute '", a.name(), "' says type ", static_cast<int>(a.type()),
                     ", its value has type ", static_cast<int>(types[0]));
  }
  return a.type();
}

void add_attribute(Draft& draft, const A& a, Payloads& payloads) {
  with_context(
      [&] {
        if (draft.attrs.contains(a.name()) || draft.tensors.contains(a.name())) {
          throw GraphError("is given twice");
        }
        if (type_of(a) == A::TENSOR) {
          draft.tensors[a.name()] = read_tensor(a.t(), payloads);
        } else if (type_of(a) == A::SPARSE_TENSOR) {
          draft.tensors[a.name()] = read_sparse(a.sparse_tensor(), payloads);
        } else {
          draft.attrs[a.name()] = plain(a);
        }
      },
      "attribute '", a.name(), "'");
}

Tensor constant_value(const Draft& draft) {
  if (draft.attrs.size() + draft.tensors.size() != 1) {
    throw GraphError("a Constant has exactly one attribute, this one has ",
                     draft.attrs.size() + draft.tensors.size());
  }
  if (!draft.tensors.empty()) {
    const auto& [name, tensor] = *draft.tensors.begin();
    if (name != "value" && name != "sparse_value") {
      throw GraphError("Constant has no attribute ", name);
    }
    return tensor;
  }
  const std::string& name = draft.attrs.begin().key();
  const Json& value = draft.attrs.begin().value();
  const bool list = value.is_array();
  if (name == "value_float" && !list) return of_numbers(DType::f32, value);
  if (name == "value_floats" && list) return of_numbers(DType::f32, value);
  if (name == "value_int" && !list) return of_numbers(DType::s64, value);
  if (name == "value_ints" && list) return of_numbers(DType::s64, value);
  if (name == "value_string" || name == "value_strings") {
    throw with(UnsupportedError("tensors of type STRING are not supported"),
               {.got = "STRING", .items = {"type STRING"}});
  }
  throw GraphError("Constant has no attribute ", name, " of this type");
}

}  // namespace planck::importer
