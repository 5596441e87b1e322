#pragma once
// What can be said of a model before its graph is built: opsets, functions, missing ops.
#include <functional>
#include <map>
#include <string>

#include "importer/importer.h"
#include "importer/onnx_proto.h"

namespace planck::importer {

using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

// "ai.onnx" is the other spelling of "".
std::string domain_of(const std::string& domain);
// If, Loop and Scan, which are unrolled where the model says how they go.
bool is_control_flow(const std::string& op);
std::string op_text(const onnx::NodeProto& node);  // "Softmax", "com.example.Foo"

// Domain -> version.
class Opsets {
 public:
  // GraphError, or VersionError if ONNX's own opset is not one of ours.
  explicit Opsets(const google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>& imports);
  // GraphError if the model does not import the domain.
  int64_t at(const std::string& domain) const;

 private:
  std::map<std::string, int64_t, std::less<>> versions_;
};

// The functions that a model brings along.
class Functions {
 public:
  // Refuses cycles (GraphError), depth and size after inlining (LimitError).
  Functions(const onnx::ModelProto& model, const OpTable& ops, const Limits& limits);
  // The function that the node calls, or null. A supported op is never one.
  const onnx::FunctionProto* called_by(const onnx::NodeProto& node) const;

 private:
  // How deep calls and sub-graphs lie in each other.
  struct Depth {
    int64_t calls = 0, graphs = 0;
    void check(const Limits& limits) const;
  };
  struct Entry {
    const onnx::FunctionProto* proto = nullptr;
    enum class State : uint8_t { fresh, open, done } state = State::fresh;
    int64_t nodes = 0;  // after inlining
    Depth depth;        // of this call and what is inside
  };
  void measure(Entry& entry, const Depth& above, const Limits& limits);
  // Adds what the nodes become after inlining; returns the greatest depth below.
  Depth add_up(const Nodes& nodes, const Depth& above, const Limits& limits, int64_t& total);

  const OpTable& ops_;
  std::map<std::string, Entry> entries_;
};

// Calls f(node, graphs around it) for all nodes, those of sub-graphs included. scan() has capped
// the depth.
using NodeVisitor = std::function<void(const onnx::NodeProto& node, int64_t graphs)>;
void for_each_node(const Nodes& nodes, const NodeVisitor& f, int64_t graphs = 0);

// One UnsupportedError for all missing ops of all graphs and called functions.
void check_supported(const onnx::ModelProto& model, const OpTable& ops, const Functions& functions);

}  // namespace planck::importer
