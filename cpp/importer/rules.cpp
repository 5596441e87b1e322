#include "importer/rules.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "base/guard.h"
#include "importer/adapters.h"
#include "importer/expansions.h"

namespace planck::importer {
namespace {

std::string key_of(const std::string& domain, const std::string& name,
                   const std::string& overload) {
  // Lengths keep the parts apart, whatever characters they hold.
  return cat(domain_of(domain).size(), ' ', name.size(), ' ', domain_of(domain), name, overload);
}

// Not in the table, yet handled: a constant is a value, control flow is unrolled, the others are
// rewritten.
bool handled(const std::string& op) {
  return op == "Constant" || op == "Scatter" || op == "Upsample" || is_control_flow(op);
}

bool supported(const onnx::NodeProto& node, const OpTable& ops) {
  // Domain "planck" is not open to models: its ops have rules that only our passes keep.
  if (expands(domain_of(node.domain()), node.op_type())) return true;
  return domain_of(node.domain()).empty() && node.op_type().find('.') == std::string::npos &&
         (handled(node.op_type()) || ops.find(node.op_type()) != nullptr);
}

struct Missing {
  int64_t count = 0;
  std::string first, op_type, domain, hint;
};

using MissingOps = std::map<std::string, Missing>;

MissingOps missing_ops(const onnx::ModelProto& model, const OpTable& ops,
                       const Functions& functions) {
  MissingOps missing;
  std::set<const onnx::FunctionProto*> seen;
  std::vector<const Nodes*> todo = {&model.graph().node()};
  while (!todo.empty()) {
    const Nodes& nodes = *todo.back();
    todo.pop_back();
    for_each_node(nodes, [&](const onnx::NodeProto& node, int64_t) {
      if (const auto* function = functions.called_by(node)) {
        if (seen.insert(function).second) todo.push_back(&function->node());
      } else if (!supported(node, ops)) {
        Missing& entry = missing[op_text(node)];
        if (entry.count++ == 0) {
          entry.first = !node.name().empty()     ? node.name()
                        : node.output_size() > 0 ? node.output(0)
                                                 : "";
          entry.op_type = node.op_type();
          entry.domain = domain_of(node.domain());
          entry.hint = hint_for(domain_of(node.domain()), node.op_type());
        }
      }
    });
  }
  return missing;
}

}  // namespace

bool is_control_flow(const std::string& op) { return op == "If" || op == "Loop" || op == "Scan"; }

std::string domain_of(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

std::string op_text(const onnx::NodeProto& node) {
  const std::string domain = domain_of(node.domain());
  return domain.empty() ? node.op_type() : cat(domain, '.', node.op_type());
}

Opsets::Opsets(const google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>& imports) {
  for (const onnx::OperatorSetIdProto& import : imports) {
    const std::string domain = domain_of(import.domain());
    const int64_t version = import.version();
    if (version < 1) {
      throw GraphError("opset ", version, " of domain '", domain, "' does not exist");
    }
    if (!versions_.emplace(domain, version).second) {
      throw GraphError("domain '", domain, "' is imported twice");
    }
    if (!domain.empty() || (version >= kOldestOpset && version <= kNewestOpset)) continue;
    throw with(VersionError("the model has opset ", version, ", this version reads ", kOldestOpset,
                            " to ", kNewestOpset),
               {.expected = cat(kOldestOpset, " to ", kNewestOpset),
                .got = cat(version),
                .hint = "convert the model with onnx.version_converter"});
  }
}

int64_t Opsets::at(const std::string& domain) const {
  const auto it = versions_.find(domain_of(domain));
  if (it == versions_.end()) {
    throw GraphError("the model uses domain '", domain, "' without an opset_import for it");
  }
  return it->second;
}

void for_each_node(const Nodes& nodes, const NodeVisitor& f, int64_t graphs) {
  for (const onnx::NodeProto& node : nodes) {
    f(node, graphs);
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.has_g()) for_each_node(attribute.g().node(), f, graphs + 1);
      for (const onnx::GraphProto& graph : attribute.graphs()) {
        for_each_node(graph.node(), f, graphs + 1);
      }
    }
  }
}

Functions::Functions(const onnx::ModelProto& model, const OpTable& ops, const Limits& limits)
    : ops_(ops) {
  for (const onnx::FunctionProto& f : model.functions()) {
    if (!entries_.emplace(key_of(f.domain(), f.name(), f.overload()), Entry{&f}).second) {
      throw GraphError("the function ", f.domain(), '.', f.name(), " is defined twice");
    }
  }
  for (auto& [key, entry] : entries_) measure(entry, {}, limits);
  int64_t total = 0;
  add_up(model.graph().node(), {}, limits, total).check(limits);
}

const onnx::FunctionProto* Functions::called_by(const onnx::NodeProto& node) const {
  if (entries_.empty() || supported(node, ops_)) return nullptr;
  const auto it = entries_.find(key_of(node.domain(), node.op_type(), node.overload()));
  return it == entries_.end() ? nullptr : it->second.proto;
}

void Functions::Depth::check(const Limits& limits) const {
  within("call_depth", limits.call_depth, calls, "calls inside each other");
  within("subgraph_depth", limits.subgraph_depth, graphs, "graphs inside each other");
}

Functions::Depth Functions::add_up(const Nodes& nodes, const Depth& above, const Limits& limits,
                                   int64_t& total) {
  Depth below;
  const auto add = [&](const onnx::NodeProto& node, int64_t graphs) {
    ++total;
    Depth here{0, graphs};
    if (called_by(node) != nullptr) {
      Entry& callee = entries_.find(key_of(node.domain(), node.op_type(), node.overload()))->second;
      measure(callee, {above.calls, above.graphs + graphs}, limits);
      total += callee.nodes;  // each at most limits.nodes, so this cannot overflow
      here = {callee.depth.calls, graphs + callee.depth.graphs};
    }
    below = {std::max(below.calls, here.calls), std::max(below.graphs, here.graphs)};
    within("nodes", limits.nodes, total, "nodes after inlining");
    check_guard();
  };
  for_each_node(nodes, add);
  return below;
}

// Recursion goes as deep as the limits allow: checked on the way down, and on the way up for
// functions that were measured before, under fewer callers.
void Functions::measure(Entry& entry, const Depth& above, const Limits& limits) {
  if (entry.state == Entry::State::done) return;
  if (entry.state == Entry::State::open) {
    throw GraphError("the function ", entry.proto->domain(), '.', entry.proto->name(),
                     " calls itself");
  }
  const Depth here{above.calls + 1, above.graphs};
  here.check(limits);
  entry.state = Entry::State::open;
  entry.depth = add_up(entry.proto->node(), here, limits, entry.nodes);
  ++entry.depth.calls;
  entry.depth.check(limits);
  entry.state = Entry::State::done;
}

void check_supported(const onnx::ModelProto& model, const OpTable& ops,
                     const Functions& functions) {
  const MissingOps missing = missing_ops(model, ops, functions);
  if (missing.empty()) return;
  std::vector<std::string> items;
  for (const auto& [op, entry] : missing) {
    items.push_back(cat(op, " (", entry.count, entry.count == 1 ? " node" : " nodes, first", " '",
                        entry.first, "')", entry.hint.empty() ? "" : ": ", entry.hint));
  }
  throw with(UnsupportedError("the model uses ", items.size(),
                              items.size() == 1 ? " op that is" : " ops that are",
                              " not supported:\n  ", joined(items, "\n  ")),
             {.node = missing.begin()->second.first,
              .op_type = missing.begin()->second.op_type,
              .domain = missing.begin()->second.domain,
              .hint = missing.begin()->second.hint,
              .items = items});
}

}  // namespace planck::importer
