#pragma once
// A node between the file and the graph: what the opset adapters rewrite.
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace planck::importer {

struct Draft {
  std::string op;
  Json attrs = Json::object();                         // numbers, strings and lists of them
  std::map<std::string, Tensor, std::less<>> tensors;  // tensor attributes
  std::vector<ValueId> inputs;
  size_t outputs = 1;  // how many the file names
  int64_t opset = 0;   // of the op's domain

  bool has(size_t i) const { return i < inputs.size() && inputs[i] != kAbsent; }
  ValueId input(size_t i) const { return has(i) ? inputs[i] : kAbsent; }
};

// Infers the node's outputs, sets their facts and appends it.
void append(Graph& graph, Node node);

// What an adapter may add to the graph on behalf of one ONNX node.
class Emitter {
 public:
  Emitter(Graph& graph, Origin origin) : graph_(graph), origin_(std::move(origin)) {}

  // Gone with the next node or constant.
  const Fact& fact(ValueId id) const { return graph_.value(id).fact; }
  ValueId constant(Tensor tensor);
  ValueId ints(const std::vector<int64_t>& values);  // s64, rank 1
  ValueId number(double value, DType dtype);         // rank 0
  // A node with one output. UnsupportedError if the op is missing.
  ValueId node(std::string_view op, std::vector<ValueId> inputs,
               const Json& attrs = Json::object());
  // The same with several outputs.
  std::vector<ValueId> nodes(std::string_view op, std::vector<ValueId> inputs, size_t outputs,
                             const Json& attrs = Json::object());
  bool made_by(ValueId id, std::string_view op) const;

 private:
  Graph& graph_;
  Origin origin_;
};

}  // namespace planck::importer
