#include "plan/archive.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/cbor.h"

namespace planck {
namespace {

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

// --- enums by name, so that a file survives a new row in the middle of a list ---
constexpr std::string_view kBufferKinds[] = {"input", "output", "constant", "arena"};
constexpr std::string_view kReduceKinds[] = {"sum", "mean", "max",        "min",
                                             "l2",  "l1",   "sum_square", "product"};
constexpr std::string_view kIntegerKinds[] = {"add",   "sub",  "mul",        "min",   "max",
                                              "equal", "less", "less_equal", "select"};
constexpr std::string_view kIndexKinds[] = {"gather",           "gather_elements", "gather_nd",
                                            "scatter_elements", "scatter_nd",      "one_hot"};
constexpr std::string_view kLaneKinds[] = {"sum", "top", "arg"};
constexpr std::string_view kChannelwiseKinds[] = {"depthwise", "max", "average"};
constexpr std::string_view kRecurrentKinds[] = {"rnn_tanh", "rnn_relu", "gru", "gru_linear",
                                                "lstm"};
constexpr std::string_view kSamplePaddings[] = {"zeros", "border", "reflection"};
constexpr std::string_view kBroadcasts[] = {"none", "per_column", "per_row", "scalar"};
constexpr std::string_view kWeightForms[] = {"flat", "columns", "transposed", "recurrent_input",
                                             "recurrent_state"};

template <class E>
std::string_view enum_name(E value) {
  const auto index = static_cast<size_t>(value);
  if constexpr (std::is_same_v<E, DType>) return info(value).name;
  if constexpr (std::is_same_v<E, TileOp>) return info(value).name;
  if constexpr (std::is_same_v<E, BufferKind>) return kBufferKinds[index];
  if constexpr (std::is_same_v<E, ReduceKind>) return kReduceKinds[index];
  if constexpr (std::is_same_v<E, IntegerKind>) return kIntegerKinds[index];
  if constexpr (std::is_same_v<E, IndexKind>) return kIndexKinds[index];
  if constexpr (std::is_same_v<E, LaneKind>) return kLaneKinds[index];
  if constexpr (std::is_same_v<E, ChannelwiseKind>) return kChannelwiseKinds[index];
  if constexpr (std::is_same_v<E, RecurrentKind>) return kRecurrentKinds[index];
  if constexpr (std::is_same_v<E, SamplePadding>) return kSamplePaddings[index];
  if constexpr (std::is_same_v<E, Broadcast>) return kBroadcasts[index];
  if constexpr (std::is_same_v<E, WeightForm>) return kWeightForms[index];
}

template <class E>
size_t enum_size() {
  if constexpr (std::is_same_v<E, DType>) return std::size(kDTypes);
  if constexpr (std::is_same_v<E, TileOp>) return std::size(kTileOps);
  if constexpr (std::is_same_v<E, BufferKind>) return std::size(kBufferKinds);
  if constexpr (std::is_same_v<E, ReduceKind>) return std::size(kReduceKinds);
  if constexpr (std::is_same_v<E, IntegerKind>) return std::size(kIntegerKinds);
  if constexpr (std::is_same_v<E, IndexKind>) return std::size(kIndexKinds);
  if constexpr (std::is_same_v<E, LaneKind>) return std::size(kLaneKinds);
  if constexpr (std::is_same_v<E, ChannelwiseKind>) return std::size(kChannelwiseKinds);
  if constexpr (std::is_same_v<E, RecurrentKind>) return std::size(kRecurrentKinds);
  if constexpr (std::is_same_v<E, SamplePadding>) return std::size(kSamplePaddings);
  if constexpr (std::is_same_v<E, Broadcast>) return std::size(kBroadcasts);
  if constexpr (std::is_same_v<E, WeightForm>) return std::size(kWeightForms);
}

// --- writing ---
template <class T>
Json written(const T& value);

// A struct is the list of its fields in the visitor's order: names would be written and read again
// for every value and step. A new field comes last and with a new minor version.
struct Writer {
  Json json = Json::array();
  template <class T>
  void operator()(const char*, const T& value) {
    json.push_back(written(value));
  }
};

template <class T>
Json written(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return enum_name(value);
  } else if constexpr (std::is_same_v<T, Dim>) {
    return value.is_constant() ? Json(value.constant()) : Json(value.text());
  } else if constexpr (std::is_same_v<T, float>) {
    return static_cast<double>(value);
  } else if constexpr (IsVector<T>::value) {
    Json list = Json::array();
    for (const auto& item : value) list.push_back(written(item));
    return list;
  } else if constexpr (std::is_same_v<T, StepParams>) {
    Json json = Json::array({family(value)});
    json.push_back(std::visit([](const auto& p) { return written(p); }, value));
    return json;
  } else if constexpr (std::is_class_v<T> && requires(Writer w) { T::fields(value, w); }) {
    Writer writer;
    T::fields(value, writer);
    return std::move(writer.json);
  } else {
    return value;
  }
}

// --- reading, strictly ---
template <class T>
void parse(const Json& json, T& value);

struct Reader {
  const Json& json;
  size_t next = 0;

  explicit Reader(const Json& from) : json(from) {
    if (!from.is_array()) throw CorruptError("expected a list of fields, got ", from.type_name());
  }
  template <class T>
  void operator()(const char* name, T& value) {
    if (next == json.size()) throw CorruptError("the field '", name, "' is missing");
    with_context([&] { parse(json[next++], value); }, "field '", name, "'");
  }
  void finish() const {
    if (json.size() != next) throw CorruptError("it has ", json.size() - next, " fields too many");
  }
};

template <class T>
void parse_integer(const Json& json, T& value) {
  if (!json.is_number_integer()) throw CorruptError(json.type_name(), " is not an integer");
  const bool huge = json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX};
  const auto number = huge ? 0 : json.get<int64_t>();
  if (huge || number < std::numeric_limits<T>::min() || number > std::numeric_limits<T>::max()) {
    throw CorruptError("an integer is out of range");
  }
  value = static_cast<T>(number);
}

template <class E>
void parse_enum(const Json& json, E& value) {
  for (size_t i = 0; json.is_string() && i < enum_size<E>(); ++i) {
    value = static_cast<E>(i);
    if (json.get_ref<const std::string&>() == enum_name(value)) return;
  }
  throw CorruptError("unknown name ", json.dump(-1, ' ', true, Json::error_handler_t::replace));
}

template <size_t I = 0>
void parse_params(const Json& json, const std::string& name, StepParams& value) {
  if constexpr (I == std::variant_size_v<StepParams>) {
    throw CorruptError("unknown family of steps");
  } else {
    std::variant_alternative_t<I, StepParams> params{};
    if (family(StepParams(params)) != name) return parse_params<I + 1>(json, name, value);
    Reader reader(json);
    decltype(params)::fields(params, reader);
    reader.finish();
    value = std::move(params);
  }
}

template <class T>
void parse(const Json& json, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    if (!json.is_boolean()) throw CorruptError(json.type_name(), " is not true or false");
    value = json.get<bool>();
  } else if constexpr (std::is_enum_v<T>) {
    parse_enum(json, value);
  } else if constexpr (std::is_integral_v<T>) {
    parse_integer(json, value);
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!json.is_number()) throw CorruptError(json.type_name(), " is not a number");
    value = static_cast<T>(json.get<double>());
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!json.is_string()) throw CorruptError(json.type_name(), " is not text");
    value = json.get<std::string>();
  } else if constexpr (std::is_same_v<T, Dim>) {
    read(json, value);  // GraphError, made CorruptError by read_archive
  } else if constexpr (IsVector<T>::value) {
    if (!json.is_array()) throw CorruptError(json.type_name(), " is not a list");
    value.reserve(json.size());
    for (const Json& item : json) parse(item, value.emplace_back());
  } else if constexpr (std::is_same_v<T, std::map<std::string, int64_t>>) {
    if (!json.is_object()) throw CorruptError(json.type_name(), " is not an object");
    for (const auto& item : json.items()) parse(item.value(), value[item.key()]);
  } else if constexpr (std::is_same_v<T, StepParams>) {
    if (!json.is_array() || json.size() != 2) throw CorruptError("a step without its family");
    std::string name;
    parse(json[0], name);
    parse_params(json[1], name, value);
  } else {
    Reader reader(json);
    T::fields(value, reader);
    reader.finish();
  }
}

// The parts of a plan that the metadata holds.
void fields(auto& plan, auto& places, auto& visit) {
  visit("precision", plan.precision);
  visit("isa", plan.isa);
  visit("buffers", plan.buffers);
  visit("constants", places);
  visit("values", plan.values);
  visit("steps", plan.steps);
  visit("inputs", plan.inputs);
  visit("outputs", plan.outputs);
  visit("nodes", plan.nodes);
  visit("unused", plan.unused);
  visit("source_weights", plan.source.weights);
  visit("report", plan.report);
}

}  // namespace

std::vector<std::byte> write_archive(const Plan& plan, std::span<const ConstantPlace> places) {
  Writer writer;
  const std::vector<ConstantPlace> all(places.begin(), places.end());
  fields(plan, all, writer);
  return to_cbor(writer.json);
}

Plan read_archive(std::span<const std::byte> bytes, std::vector<ConstantPlace>& places) {
  Plan plan;
  const Json json = from_cbor(bytes);
  try {
    Reader reader(json);
    fields(plan, places, reader);
    reader.finish();
  } catch (const GraphError& e) {  // a shape expression
    throw CorruptError(e.what());
  }
  return plan;
}

}  // namespace planck
