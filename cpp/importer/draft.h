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
};

// Infers the node's outputs, sets their facts and appends it.
void append(Graph& graph, Node node);

// What an adapter may add to the graph on behalf of one ONNX node.
class Emitter {
 public:
  Emitter(Graph& graph, Origin origin) : graph_(graph), origin_(std::move(origin)) {}

  const Fact& fact(ValueId id) const { return graph_.value(id).fact; }
  ValueId constant(Tensor tensor);
  ValueId ints(const std::vector<int64_t>& values);  // s64, rank 1
  ValueId number(double value, DType dtype);         // rank 0
  // A node with one output. UnsupportedError if the op is missing.
  ValueId node(std::string_view op, std::vector<ValueId> inputs,
               const Json& attrs = Json::object());

 private:
  Graph& graph_;
  Origin origin_;
};

}  // namespace planck::importer
