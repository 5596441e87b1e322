#include "importer/rules.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "importer/adapters.h"
#include "importer/expansions.h"
#include "importer/limits.h"

namespace planck::importer {
namespace {

std::string key_of(const std::string& domain, const std::string& name,
                   const std::string& overload) {
  // Lengths keep the parts apart, whatever characters they hold.
  return cat(domain_of(domain).size(), ' ', name.size(), ' ', domain_of(domain), name, overload);
}

// Not in the table, yet handled: a constant is a value, the others are rewritten.
bool handled(const std::string& op) { return op == "Constant" || op == "Scatter"; }

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
    for_each_node(nodes, [&](const onnx::NodeProto& node) {
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

void for_each_node(const Nodes& nodes, const std::function<void(const onnx::NodeProto&)>& f) {
  for (const onnx::NodeProto& node : nodes) {
    f(node);
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.has_g()) for_each_node(attribute.g().node(), f);
      for (const onnx::GraphProto& graph : attribute.graphs()) for_each_node(graph.node(), f);
    }
  }
}

Functions::Functions(const onnx::ModelProto& model, const OpTable& ops, const ImportLimits& limits)
    : ops_(ops) {
  for (const onnx::FunctionProto& f : model.functions()) {
    if (!entries_.emplace(key_of(f.domain(), f.name(), f.overload()), Entry{&f}).second) {
      throw GraphError("the function ", f.domain(), '.', f.name(), " is defined twice");
    }
  }
  for (auto& [key, entry] : entries_) measure(entry, 1, limits);
  int64_t total = 0;
  add_up(model.graph().node(), 0, limits, total);
}

const onnx::FunctionProto* Functions::called_by(const onnx::NodeProto& node) const {
  if (entries_.empty() || supported(node, ops_)) return nullptr;
  const auto it = entries_.find(key_of(node.domain(), node.op_type(), node.overload()));
  return it == entries_.end() ? nullptr : it->second.proto;
}

int64_t Functions::add_up(const Nodes& nodes, int64_t depth, const ImportLimits& limits,
                          int64_t& total) {
  int64_t below = 0;
  for_each_node(nodes, [&](const onnx::NodeProto& node) {
    ++total;
    if (called_by(node) != nullptr) {
      Entry& callee = entries_.find(key_of(node.domain(), node.op_type(), node.overload()))->second;
      measure(callee, depth + 1, limits);
      total += callee.nodes;  // each at most limits.nodes, so this cannot overflow
      below = std::max(below, callee.depth);
    }
    within("nodes", limits.nodes, total, "nodes after inlining");
  });
  return below;
}

void Functions::measure(Entry& entry, int64_t depth, const ImportLimits& limits) {
  if (entry.state == Entry::State::done) return;
  if (entry.state == Entry::State::open) {
    throw GraphError("the function ", entry.proto->domain(), '.', entry.proto->name(),
                     " calls itself");
  }
  within("call_depth", limits.call_depth, depth, "nested calls");
  entry.state = Entry::State::open;
  entry.depth = 1 + add_up(entry.proto->node(), depth, limits, entry.nodes);
  within("call_depth", limits.call_depth, entry.depth, "nested calls");
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
