#include "importer/draft.h"

namespace planck::importer {

void append(Graph& graph, Node node) {
  const std::vector<Fact> facts = infer_node(graph, node);
  for (size_t i = 0; i < facts.size(); ++i) {
    if (node.outputs[i] != kAbsent) graph.set_fact(node.outputs[i], facts[i]);
  }
  graph.add_node(std::move(node));
}

ValueId Emitter::constant(Tensor tensor) {
  const ValueId id = graph_.add_constant(std::move(tensor));
  graph_.add_origin(id, origin_);
  return id;
}

ValueId Emitter::ints(const std::vector<int64_t>& values) { return constant(Tensor::ints(values)); }

ValueId Emitter::number(double value, DType dtype) {
  Wide wide(dtype, {});
  if (wide.floating()) {
    wide.real[0] = value;
  } else {
    wide.integer[0] = static_cast<int64_t>(value);
  }
  return constant(narrow(wide));
}

ValueId Emitter::node(std::string_view op, std::vector<ValueId> inputs, const Json& attrs) {
  return nodes(op, std::move(inputs), 1, attrs)[0];
}

std::vector<ValueId> Emitter::nodes(std::string_view op, std::vector<ValueId> inputs,
                                    size_t outputs, const Json& attrs) {
  Node node;
  node.op = &graph_.table->at(op);
  node.attrs = node.op->parse(attrs);
  node.inputs = std::move(inputs);
  for (size_t i = 0; i < outputs; ++i) node.outputs.push_back(graph_.add_value({}));
  node.origin = origin_;
  std::vector<ValueId> out = node.outputs;
  append(graph_, std::move(node));
  return out;
}

bool Emitter::made_by(ValueId id, std::string_view op) const {
  const Node* node = graph_.producer(id);
  return node != nullptr && node->is(op);
}

}  // namespace planck::importer
