#include "ir/patch.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace planck {

const Fact& Patch::fact(ValueId id) const {
  const auto known = static_cast<ValueId>(graph_->value_count());
  return id < known ? graph_->value(id).fact : values_.at(static_cast<size_t>(id - known)).fact;
}

const QuantFact& Patch::quant(ValueId id) const {
  const auto known = static_cast<ValueId>(graph_->value_count());
  return id < known ? graph_->value(id).quant : values_.at(static_cast<size_t>(id - known)).quant;
}

std::vector<ValueId> Patch::add_node(std::string_view op, Attrs attrs, std::vector<ValueId> inputs,
                                     size_t outputs) {
  const OpDef& def = graph_->table->at(op);
  Node n;
  n.op = &def;
  n.attrs = attrs != nullptr ? std::move(attrs) : def.parse(Json::object());
  n.inputs = std::move(inputs);
  std::vector<const Fact*> facts;
  for (const ValueId v : n.inputs) facts.push_back(v == kAbsent ? nullptr : &fact(v));
  const auto first = static_cast<ValueId>(graph_->value_count() + values_.size());
  std::vector<Fact> inferred =
      infer_outputs(def, n.attrs.get(), facts, outputs, cat(def.name, first));
  for (Fact& f : inferred) {
    n.outputs.push_back(first + static_cast<ValueId>(n.outputs.size()));
    values_.push_back({std::move(f), nullptr});
  }
  nodes_.push_back(std::move(n));
  return nodes_.back().outputs;
}

ValueId Patch::add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs) {
  return add_node(op, std::move(attrs), std::move(inputs), 1)[0];
}

ValueId Patch::constant(Tensor tensor, QuantFact quant, std::optional<DType> stored) {
  Fact fact;
  fact.type = tensor.type();
  fact.constant = std::make_shared<const Tensor>(std::move(tensor));
  values_.push_back({std::move(fact), std::move(quant), stored});
  return static_cast<ValueId>(graph_->value_count() + values_.size() - 1);
}

namespace {

// Removes nodes that nothing reads, from the producers of values backwards, and collects the
// origins of what went, those of constants that only they read included.
class Remover {
 public:
  explicit Remover(Graph& g) : graph_(g) {}

  void from(ValueId v) {
    stack_.push_back(v);
    while (!stack_.empty()) {
      const ValueId at = stack_.back();
      stack_.pop_back();
      visit(at);
    }
  }
  void from(const Node& n) {
    for (const ValueId v : n.outputs) from(v);
  }
  Origin take() { return std::exchange(origin_, {}); }

 private:
  void visit(ValueId v) {
    if (v == kAbsent) return;
    const Node* n = graph_.producer(v);
    if (n == nullptr) {
      if (graph_.uses(v) == 0) merge_origin(origin_, graph_.value(v).origin);
      graph_.forget(v);
      return;
    }
    const bool read = std::ranges::any_of(
        n->outputs, [&](ValueId o) { return o != kAbsent && graph_.uses(o) > 0; });
    if (read || !n->alive) return;
    merge_origin(origin_, n->origin);
    const std::vector<ValueId> inputs = n->inputs;
    graph_.erase(n->id);
    stack_.insert(stack_.end(), inputs.begin(), inputs.end());
  }

  Graph& graph_;
  std::vector<ValueId> stack_;
  Origin origin_;
};

// Without a new node, whoever makes the replacement stands for what went, or a constant itself.
void hand_over(Graph& g, ValueId after, const Origin& origin) {
  if (const Node* n = g.producer(after)) {
    g.add_node_origin(n->id, origin);
  } else {
    g.add_origin(after, origin);
  }
}

void move_name(Graph& g, ValueId before, ValueId after) {
  if (!g.value(after).name.empty()) return;
  g.set_name(after, g.value(before).name);
  g.set_name(before, "");  // a name belongs to one value
}

// What was known of the contents stays known: ops of ours carry no shape arithmetic.
void keep_contents(Graph& g, ValueId before, ValueId after) {
  const Fact &known = g.value(before).fact, &fact = g.value(after).fact;
  if (!known.contents || fact.contents || fact.constant != nullptr) return;
  Fact sharper = fact;
  sharper.contents = known.contents;
  g.set_fact(after, std::move(sharper));
}

NodeId alive_from(const Graph& g, NodeId id) {
  while (id != kNoNode && !g.node(id).alive) id = g.node(id).next;
  return id;
}

}  // namespace

NodeId apply(Graph& g, const Patch& patch) {
  for (const Patch::NewValue& v : patch.values_) {
    const ValueId id = g.add_value(v.fact);
    if (v.quant != nullptr) g.set_quant(id, v.quant);
    g.set_stored(id, v.stored);
  }
  std::vector<NodeId> added;
  for (const Node& n : patch.nodes_) added.push_back(g.add_node(n, patch.at_));
  for (const auto& [id, fact] : patch.refined_) g.set_fact(id, fact);
  for (const auto& [before, after] : patch.named_) move_name(g, before, after);
  Remover remover(g);
  Origin gone;
  for (const auto& [before, after] : patch.replaced_) {
    g.replace_uses(before, after);
    keep_contents(g, before, after);
    move_name(g, before, after);
    remover.from(before);
    const Origin origin = remover.take();
    if (added.empty()) {
      hand_over(g, after, origin);
    } else {
      merge_origin(gone, origin);
    }
  }
  std::erase_if(added, [&](NodeId id) { return !g.node(id).alive; });
  if (!added.empty()) {
    const Node* credited = g.producer(patch.credited_);
    const bool alive = credited != nullptr && credited->alive;
    g.add_node_origin(alive ? credited->id : added.back(), gone);
  } else if (!gone.empty()) {
    hand_over(g, patch.replaced_.back().second, gone);
  }
  for (const NodeId id : patch.removed_) {
    remover.from(g.node(id));
    merge_origin(g.unused, remover.take());
  }
  for (const NodeId id : added) verify_node(g, id);
  return alive_from(g, added.empty() ? patch.at_ : added.front());
}

}  // namespace planck
