#include "ir/archive.h"

#include <algorithm>
#include <cfloat>
#include <nlohmann/json.hpp>

#include "base/cbor.h"
#include "base/checked.h"

namespace planck {
namespace {

class Archiver {
 public:
  Archiver(const Graph& g, const std::function<int64_t(const Value&)>& weight)
      : graph_(g), weight_(weight) {}

  Json graph() {
    Json out = Json::object();
    for (const ValueId v : graph_.inputs) id(v);
    Json nodes = Json::array();
    for (const Node& n : graph_.nodes()) nodes.push_back(node(n));
    out["inputs"] = ids(graph_.inputs);
    out["outputs"] = ids(graph_.outputs);
    out["output_names"] = graph_.output_names;
    out["nodes"] = std::move(nodes);
    out["values"] = std::move(values_);
    return out;
  }

 private:
  Json ids(const std::vector<ValueId>& all) {
    Json out = Json::array();
    for (const ValueId v : all) out.push_back(v == kAbsent ? -1 : id(v));
    return out;
  }

  // Values are numbered by first appearance, so that ids of dead ones do not show.
  int64_t id(ValueId v) {
    const auto [it, fresh] = numbers_.emplace(v, static_cast<int64_t>(numbers_.size()));
    if (fresh) values_.push_back(value(graph_.value(v)));
    return it->second;
  }

  Json value(const Value& v) {
    Json out = Json::object();
    out["name"] = v.name;
    out["dtype"] = dtype_name(v.type().dtype);
    out["dims"] = Json::array();
    for (const Dim& d : v.type().dims) {
      out["dims"].push_back(d.is_constant() ? Json(d.constant()) : Json(d.text()));
    }
    if (!v.is_constant()) return out;
    const Tensor& t = *v.fact.constant;
    if (t.bytes() > kArchivedBytes) {
      out["weight"] = weight_(v);
    } else {
      const auto* data = reinterpret_cast<const uint8_t*>(t.data());
      out["data"] = Json::binary(std::vector<uint8_t>(data, data + t.bytes()));
    }
    if (v.quant != nullptr) out["quant"] = grid(*v.quant);
    return out;
  }

  static Json grid(const QParams& q) {
    return {{"dtype", dtype_name(q.dtype)},
            {"scale", q.scale},
            {"zero_point", q.zero_point},
            {"axis", q.axis},
            {"block", q.block}};
  }

  Json node(const Node& n) {
    if (!n.subgraphs.empty()) throw UnsupportedError("sub-graphs are not archived");
    Json out = Json::object();
    out["op"] = n.op->text();
    out["attrs"] = n.op->print(n.attrs.get());
    out["in"] = ids(n.inputs);
    out["out"] = ids(n.outputs);
    out["origin"] = n.origin;
    return out;
  }

  const Graph& graph_;
  const std::function<int64_t(const Value&)>& weight_;
  std::map<ValueId, int64_t> numbers_;
  Json values_ = Json::array();
};

class Restorer {
 public:
  Restorer(const Json& json, const OpTable& ops) : json_(json), out_{Graph(ops), {}} {}

  ArchivedGraph run() {
    const Json& values = field(json_, "values");
    const Json& inputs = field(json_, "inputs");
    if (!values.is_array() || !inputs.is_array()) fail("values or inputs are no lists");
    std::vector<bool> is_input(values.size());
    for (const Json& i : inputs) is_input[index(i, values.size())] = true;
    for (size_t i = 0; i < values.size(); ++i) value(values[i], is_input[i]);
    for (const Json& n : field(json_, "nodes")) node(n);
    const Json &outputs = field(json_, "outputs"), &names = field(json_, "output_names");
    if (outputs.size() != names.size()) fail("outputs and their names differ in number");
    for (size_t i = 0; i < outputs.size(); ++i) {
      const ValueId v = ids_[index(outputs[i], ids_.size())];
      if (!known(v)) fail("an output that nothing produces");
      out_.graph.add_output(v, names[i].get<std::string>());
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] static void fail(const char* what) {
    throw CorruptError("the source graph of the plan is damaged: ", what);
  }
  static const Json& field(const Json& json, const char* name) {
    const auto at = json.find(name);
    if (!json.is_object() || at == json.end()) fail(name);
    return *at;
  }
  static size_t index(const Json& json, size_t size) {
    if (!json.is_number_integer()) fail("an id is no integer");
    const auto i = json.get<int64_t>();
    if (i < 0 || static_cast<size_t>(i) >= size) fail("an id is out of range");
    return static_cast<size_t>(i);
  }

  void value(const Json& json, bool is_input) {
    TensorType type;
    const auto dtype = dtype_of_name(field(json, "dtype").get<std::string>());
    if (!dtype) fail("an unknown type");
    type.dtype = *dtype;
    for (const Json& d : field(json, "dims")) read(d, type.dims.emplace_back());
    const auto name = field(json, "name").get<std::string>();
    known_.push_back(is_input || json.contains("data") || json.contains("weight"));
    if (is_input) {
      ids_.push_back(out_.graph.add_input(name, std::move(type)));
    } else if (json.contains("data")) {
      ids_.push_back(out_.graph.add_constant(tensor(json["data"], type), name));
    } else {
      ids_.push_back(out_.graph.add_value({std::move(type), nullptr, {}}, name));
      if (json.contains("weight")) {
        out_.weights[ids_.back()] = static_cast<int64_t>(index(json["weight"], INT32_MAX));
      }
    }
    if (json.contains("quant")) grid(json["quant"]);
  }

  // Of the value that was read last.
  void grid(const Json& json) {
    QParams q;
    const auto dtype = dtype_of_name(field(json, "dtype").get<std::string>());
    if (!dtype) fail("an unknown type of a grid");
    q.dtype = *dtype;
    q.scale = field(json, "scale").get<std::vector<float>>();
    q.zero_point = field(json, "zero_point").get<std::vector<int32_t>>();
    q.axis = field(json, "axis").get<int64_t>();
    q.block = field(json, "block").get<int64_t>();
    const TensorType& type = out_.graph.value(ids_.back()).type();
    Shape shape;
    for (const Dim& d : type.dims) shape.push_back(d.known().value_or(-1));
    const bool sound = std::ranges::all_of(q.scale, [](float s) { return s > 0 && s <= FLT_MAX; });
    if (!sound || !is_float(type.dtype) || q.zero_point.size() != q.scale.size() ||
        static_cast<int64_t>(q.scale.size()) != count_of_scales(q, shape)) {
      fail("the grid of a constant does not fit it");
    }
    out_.graph.set_quant(ids_.back(), std::make_shared<const QParams>(std::move(q)));
  }

  static Tensor tensor(const Json& data, const TensorType& type) {
    Shape shape;
    for (const Dim& d : type.dims) shape.push_back(d.known().value_or(-1));
    const int64_t bytes = checked_mul(checked_count(shape), size_of(type.dtype));
    if (!data.is_binary() || static_cast<int64_t>(data.get_binary().size()) != bytes) {
      fail("a constant of the wrong size");
    }
    std::byte* to = nullptr;
    Tensor out = Tensor::make(type.dtype, shape, &to);
    std::ranges::copy(std::as_bytes(std::span(data.get_binary())), to);
    return out;
  }

  void node(const Json& json) {
    Node n;
    const auto op = field(json, "op").get<std::string>();
    n.op = out_.graph.table->find(op);
    if (n.op == nullptr) fail("an op that this library does not have");
    n.attrs = n.op->parse(field(json, "attrs"));
    // In order, so that whoever walks from a value to what it is made of comes to an end.
    for (const Json& i : field(json, "in")) {
      n.inputs.push_back(operand(i));
      if (!known(n.inputs.back())) fail("a node reads a value before it is there");
    }
    for (const Json& i : field(json, "out")) n.outputs.push_back(operand(i));
    for (const ValueId v : n.outputs) {
      if (v == kAbsent) continue;
      if (known(v)) fail("a value with two producers");
      known_[static_cast<size_t>(v)] = true;
    }
    check_arity(*n.op, n.inputs.size(), n.outputs.size());
    n.origin = field(json, "origin").get<Origin>();
    out_.graph.add_node(std::move(n));
  }
  ValueId operand(const Json& json) const {
    if (json.is_number_integer() && json.get<int64_t>() == -1) return kAbsent;
    return ids_[index(json, ids_.size())];
  }

  // Whether it is an input, a constant, or an output of a node so far.
  bool known(ValueId v) const { return v == kAbsent || known_[static_cast<size_t>(v)]; }

  const Json& json_;
  ArchivedGraph out_;
  std::vector<ValueId> ids_;
  std::vector<bool> known_;  // by value
};

}  // namespace

std::vector<std::byte> write_archive(const Graph& g,
                                     const std::function<int64_t(const Value&)>& weight) {
  return to_cbor(Archiver(g, weight).graph());
}

ArchivedGraph read_archive(std::span<const std::byte> bytes, const OpTable& ops) {
  const Json json = from_cbor(bytes);
  try {
    return Restorer(json, ops).run();
  } catch (const Json::exception& e) {
    throw CorruptError("the source graph of the plan is damaged: ", e.what());
  } catch (const GraphError& e) {
    throw CorruptError("the source graph of the plan is damaged: ", e.what());
  }
}

}  // namespace planck
