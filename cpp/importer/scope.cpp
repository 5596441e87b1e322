#include "importer/scope.h"

#include <algorithm>

namespace planck::importer {

void Scope::define(const std::string& name, ValueId id) {
  if (name.empty()) throw GraphError("a value has no name");
  for (const Scope* s = this; s != nullptr; s = s->outer_) {
    if (s->names_.contains(name)) {
      throw GraphError("the value '", name,
                       s == this ? "' is defined twice" : "' hides one of the same name outside");
    }
  }
  names_.emplace(name, id);
}

ValueId Scope::find(const std::string& name) {
  const ValueId* found = lookup(name);
  if (found == nullptr) undefined(name);
  return *found;
}

// Recursion is as deep as graphs are nested, which scan() caps.
const ValueId* Scope::lookup(const std::string& name) {
  const auto it = names_.find(name);
  if (it != names_.end()) return &it->second;
  const ValueId* outer = outer_ == nullptr ? nullptr : outer_->lookup(name);
  if (outer == nullptr) return nullptr;
  return &names_.emplace(name, capture(name, *outer)).first->second;
}

ValueId Scope::capture(const std::string& name, ValueId outer) {
  if (&outer_->graph_ == &graph_) return outer;  // a branch or body that was inlined
  if (outer == kAbsent) return kAbsent;  // an optional argument of a function that was not given
  const Value& value = outer_->graph_.value(outer);
  if (value.fact.constant != nullptr) {  // shared, not copied; nothing to capture
    const ValueId id = graph_.add_constant(*value.fact.constant, value.name);
    graph_.add_origin(id, value.origin);
    return id;
  }
  captures_.push_back({name, outer, graph_.add_value(value.fact, value.name)});
  return captures_.back().inner;
}

void Scope::undefined(const std::string& name) const {
  for (const Scope* s = this; s != nullptr; s = s->outer_) {
    for (const onnx::NodeProto& node : s->nodes_) {
      if (std::ranges::find(node.output(), name) == node.output().end()) continue;
      throw with(GraphError("the value '", name, "' is read before it is produced"),
                 {.hint = "ONNX wants nodes sorted, each after those that it reads; a cycle cannot "
                          "be sorted"});
    }
  }
  throw GraphError("nothing produces the value '", name, "'");
}

}  // namespace planck::importer
