#include "ops/graph_evaluator.h"

#include <algorithm>
#include <map>

#include "ops/evaluate.h"

namespace planck {

namespace {

class GraphEvaluator {
 public:
  explicit GraphEvaluator(const Graph& g) : graph_(g) {}

  std::vector<Wide> run(std::span<const Wide> inputs) {
    feed(inputs);
    for (const Node& n : graph_.nodes()) {
      at_node("node", graph_, n, [&] { node(n); });
      forget(n);
    }
    std::vector<Wide> out;
    for (const ValueId v : graph_.outputs) out.push_back(at(v));
    return out;
  }

 private:
  void feed(std::span<const Wide> inputs) {
    if (inputs.size() != graph_.inputs.size()) {
      throw FeedError("the graph takes ", graph_.inputs.size(), " inputs, got ", inputs.size());
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      const ValueId v = graph_.inputs[i];
      bind(v, inputs[i].shape);
      values_[v] = inputs[i];
    }
  }

  // Symbols that have no value yet take it from the actual shape; the others must agree with it.
  void bind(ValueId v, const Shape& shape) {
    const TensorType& type = graph_.value(v).type();
    if (shape.size() != type.dims.size()) {
      throw FeedError(label(graph_, v), " is ", type, ", got the shape ", shape_text(shape));
    }
    for (size_t i = 0; i < shape.size(); ++i) {
      const std::string name(type.dims[i].as_symbol());
      if (!name.empty()) bindings_.emplace(name, shape[i]);
    }
    for (size_t i = 0; i < shape.size(); ++i) {
      const bool known = std::ranges::all_of(
          type.dims[i].symbols(), [&](const std::string& s) { return bindings_.contains(s); });
      if (known && type.dims[i].eval(bindings_) != shape[i]) {
        throw FeedError(label(graph_, v), " is ", type, ", got the shape ", shape_text(shape));
      }
    }
  }

  const Wide& at(ValueId v) {
    const auto it = values_.find(v);
    if (it != values_.end()) return it->second;
    const Value& value = graph_.value(v);
    if (!value.is_constant()) throw InternalError(label(graph_, v), " has no value");
    return values_[v] = widen(*value.fact.constant);
  }

  void node(const Node& n) {
    if (!n.subgraphs.empty()) throw UnsupportedError("sub-graphs are not evaluated");
    std::vector<const Wide*> in;
    for (const ValueId v : n.inputs) in.push_back(v == kAbsent ? nullptr : &at(v));
    std::vector<Wide> out(n.outputs.size());
    Evaluation call{in, out, &bindings_};
    evaluate(*n.op, n.attrs.get(), call);
    for (size_t i = 0; i < out.size(); ++i) {
      if (n.outputs[i] == kAbsent) continue;
      bind(n.outputs[i], out[i].shape);
      values_[n.outputs[i]] = std::move(out[i]);
    }
  }

  // Frees what no later node reads; a wide model is twice its size already.
  void forget(const Node& n) {
    for (const ValueId v : n.inputs) {
      if (v == kAbsent || graph_.is_output(v)) continue;
      if (++reads_[v] == static_cast<int64_t>(graph_.value(v).readers.size())) values_.erase(v);
    }
  }

  const Graph& graph_;
  Bindings bindings_;
  std::map<ValueId, Wide> values_;  // references stay valid while others are added
  std::map<ValueId, int64_t> reads_;
};

}  // namespace

std::vector<Wide> evaluate_graph(const Graph& g, std::span<const Wide> inputs) {
  return GraphEvaluator(g).run(inputs);
}

}  // namespace planck
