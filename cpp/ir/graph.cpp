#include "ir/graph.h"

#include <algorithm>

#include "base/checked.h"

namespace planck {

void merge_origin(Origin& into, const Origin& from) {
  if (from.empty()) return;
  Origin merged;
  merged.reserve(into.size() + from.size());
  std::ranges::set_union(into, from, std::back_inserter(merged));
  into = std::move(merged);
}

bool Node::is(std::string_view text) const {
  if (op->domain.empty()) return op->name == text;
  return text.size() == op->domain.size() + 1 + op->name.size() && text.starts_with(op->domain) &&
         text.ends_with(op->name) && text[op->domain.size()] == '.';
}

const Node* Graph::producer(ValueId id) const {
  if (id == kAbsent) return nullptr;
  const NodeId n = value(id).producer;
  return n == kNoNode ? nullptr : &node(n);
}

bool Graph::is_output(ValueId id) const { return std::ranges::find(outputs, id) != outputs.end(); }

int64_t Graph::uses(ValueId id) const {
  return static_cast<int64_t>(value(id).readers.size()) + std::ranges::count(outputs, id);
}

NodeRange Graph::nodes_from(NodeId from) const { return {*this, from == kNoNode ? first_ : from}; }
NodeRange Graph::nodes() const { return {*this, first_}; }

std::vector<SourceNode> Graph::names_of(const Origin& origin) const {
  std::vector<SourceNode> out;
  for (const int32_t i : origin) out.push_back(sources->at(static_cast<size_t>(i)));
  return out;
}

ValueId Graph::add_value(Fact fact, std::string value_name) {
  Value v;
  v.id = static_cast<ValueId>(values_.size());
  v.name = std::move(value_name);
  v.fact = std::move(fact);
  values_.push_back(std::move(v));
  return values_.back().id;
}

ValueId Graph::add_input(const std::string& input_name, TensorType type) {
  inputs.push_back(add_value({std::move(type), nullptr, {}}, input_name));
  return inputs.back();
}

ValueId Graph::add_constant(Tensor tensor, std::string value_name) {
  Fact fact;
  fact.type = tensor.type();
  fact.constant = std::make_shared<const Tensor>(std::move(tensor));
  return add_value(std::move(fact), std::move(value_name));
}

NodeId Graph::add_node(Node n, NodeId before) {
  n.id = static_cast<NodeId>(nodes_.size());
  n.next = before;
  n.previous = before == kNoNode ? last_ : nodes_[static_cast<size_t>(before)].previous;
  (n.previous == kNoNode ? first_ : nodes_[static_cast<size_t>(n.previous)].next) = n.id;
  (before == kNoNode ? last_ : nodes_[static_cast<size_t>(before)].previous) = n.id;
  for (const ValueId v : n.inputs) {
    if (v != kAbsent) values_.at(static_cast<size_t>(v)).readers.push_back(n.id);
  }
  for (const ValueId v : n.outputs) {
    if (v != kAbsent) values_.at(static_cast<size_t>(v)).producer = n.id;
  }
  nodes_.push_back(std::move(n));
  ++alive_;
  return nodes_.back().id;
}

void Graph::add_output(ValueId id, std::string output_name) {
  outputs.push_back(id);
  output_names.push_back(std::move(output_name));
}

void Graph::set_name(ValueId id, std::string value_name) {
  values_.at(static_cast<size_t>(id)).name = std::move(value_name);
}
void Graph::add_origin(ValueId id, const Origin& origin) {
  merge_origin(values_.at(static_cast<size_t>(id)).origin, origin);
}
void Graph::add_node_origin(NodeId id, const Origin& origin) {
  merge_origin(nodes_.at(static_cast<size_t>(id)).origin, origin);
}
void Graph::set_quant(ValueId id, QuantFact quant) {
  values_.at(static_cast<size_t>(id)).quant = std::move(quant);
}
void Graph::set_stored(ValueId id, std::optional<DType> stored) {
  values_.at(static_cast<size_t>(id)).stored = stored;
}
void Graph::set_recipe(ValueId id, std::string recipe) {
  values_.at(static_cast<size_t>(id)).recipe = std::move(recipe);
}

void Graph::replace_uses(ValueId before, ValueId after) {
  Value& from = values_.at(static_cast<size_t>(before));
  Value& to = values_.at(static_cast<size_t>(after));
  for (const NodeId reader : from.readers) {
    std::vector<ValueId>& in = nodes_[static_cast<size_t>(reader)].inputs;
    *std::ranges::find(in, before) = after;  // one use for each entry of readers
    to.readers.push_back(reader);
  }
  from.readers.clear();
  std::ranges::replace(outputs, before, after);
}

void Graph::set_input(NodeId id, size_t input, ValueId after) {
  ValueId& slot = nodes_.at(static_cast<size_t>(id)).inputs.at(input);
  std::vector<NodeId>& readers = values_.at(static_cast<size_t>(slot)).readers;
  readers.erase(std::ranges::find(readers, id));  // one entry for each use
  values_.at(static_cast<size_t>(after)).readers.push_back(id);
  slot = after;
}

void Graph::erase(NodeId id) {
  Node& n = nodes_.at(static_cast<size_t>(id));
  for (const ValueId v : n.outputs) {
    if (v != kAbsent && uses(v) > 0) throw InternalError(label(*this, v), " is still read");
  }
  for (const ValueId v : n.inputs) {
    if (v == kAbsent) continue;
    std::vector<NodeId>& readers = values_[static_cast<size_t>(v)].readers;
    readers.erase(std::ranges::find(readers, id));
  }
  (n.previous == kNoNode ? first_ : nodes_[static_cast<size_t>(n.previous)].next) = n.next;
  (n.next == kNoNode ? last_ : nodes_[static_cast<size_t>(n.next)].previous) = n.previous;
  n.alive = false;
  --alive_;
}

void Graph::forget(ValueId id) {
  if (uses(id) == 0) values_.at(static_cast<size_t>(id)).fact.constant.reset();
}

std::vector<Fact> infer_outputs(const OpDef& op, const void* attrs,
                                std::span<const Fact* const> facts, size_t outputs,
                                std::string_view fresh_name) {
  check_arity(op, facts.size(), outputs);
  for (int i = 0; i < op.min_inputs; ++i) {
    if (facts[static_cast<size_t>(i)] == nullptr) {
      throw GraphError("input ", i, " of ", op.text(), " is required");
    }
  }
  std::vector<Fact> out(outputs);
  Inference call{facts, out,
                 [&](int index) { return Dim::symbol(cat('?', fresh_name, ':', index)); }};
  op.infer(attrs, call);
  return out;
}

std::vector<Fact> infer_node(const Graph& g, const Node& n) {
  std::vector<const Fact*> facts;
  const size_t plain = n.inputs.size() - static_cast<size_t>(n.captures);
  for (size_t i = 0; i < plain; ++i) {
    facts.push_back(n.inputs[i] == kAbsent ? nullptr : &g.value(n.inputs[i]).fact);
  }
  return with_context(
      [&] {
        return infer_outputs(*n.op, n.attrs.get(), facts, n.outputs.size(),
                             cat(n.op->name, n.outputs.empty() ? kAbsent : n.outputs[0]));
      },
      "node ", origin_text(g, n.origin), " (", n.op->text(), ")");
}

int64_t count_of_scales(const QParams& q, std::span<const int64_t> shape) {
  if (q.axis == -1) return q.block == 0 ? 1 : -1;
  if (q.axis < 0 || q.axis >= static_cast<int64_t>(shape.size()) || q.block < 0) return -1;
  const auto at = static_cast<size_t>(q.axis);
  if (q.block == 0) return shape[at];
  Shape blocks(shape.begin(), shape.end());
  blocks[at] = blocks[at] / q.block + (blocks[at] % q.block != 0 ? 1 : 0);
  return checked_count(blocks);
}

std::string label(const Graph& g, ValueId id) {
  if (id == kAbsent) return "none";
  const Value& v = g.value(id);
  return v.name.empty() ? cat('%', id) : "%" + v.name;
}

std::string origin_text(const Graph& g, const Origin& origin) {
  constexpr size_t kMost = 3;
  if (origin.empty()) return "without an ONNX name";
  std::vector<std::string> names;
  for (size_t i = 0; i < origin.size() && i < kMost; ++i) {
    names.push_back(g.sources->at(static_cast<size_t>(origin[i])).name);
  }
  std::string out = joined(names, " + ");
  if (origin.size() > kMost) out += cat(" + ", origin.size() - kMost, " more");
  return out;
}

}  // namespace planck
