#pragma once
// Names while a graph is built. A sub-graph sees the names around it; a function body does not.
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "importer/rules.h"
#include "ir/graph.h"

namespace planck::importer {

class Scope {
 public:
  // `outer` is null for the main graph and for function bodies.
  Scope(Graph& graph, const Nodes& nodes, Scope* outer)
      : graph_(graph), nodes_(nodes), outer_(outer) {}

  Graph& graph() { return graph_; }
  bool defines(const std::string& name) const { return names_.contains(name); }
  // Makes the name known. GraphError if this graph or one around it has it already.
  void define(const std::string& name, ValueId id);
  // The value of a name; what an outer graph defines is captured. GraphError if nothing does.
  ValueId find(const std::string& name);

  // Values of the outer graph and what they are called here, in the order of their first use.
  struct Capture {
    std::string name;
    ValueId outer, inner;
  };
  const std::vector<Capture>& captures() const { return captures_; }

 private:
  const ValueId* lookup(const std::string& name);
  ValueId capture(const std::string& name, ValueId outer);
  [[noreturn]] void undefined(const std::string& name) const;

  Graph& graph_;
  const Nodes& nodes_;
  Scope* outer_;
  std::unordered_map<std::string, ValueId> names_;
  std::vector<Capture> captures_;
};

}  // namespace planck::importer
