#pragma once
// A model in memory: values and nodes at one internal opset. Ids index vectors and stay valid for
// the life of the graph; nodes keep their order in a linked list, so that a patch costs what it
// touches. Only apply() (ir/patch.h) and the importer change a graph.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/qparams.h"
#include "ir/op_def.h"

namespace planck {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId kAbsent = -1;  // an optional input that is not given
inline constexpr NodeId kNoNode = -1;

// A node of the ONNX file, by name, as reports show it.
struct SourceNode {
  std::string name;
  std::string op_type;
};
using Origin = std::vector<int32_t>;  // sorted indices into Graph::sources, each once
using QuantFact = std::shared_ptr<const QParams>;
void merge_origin(Origin& into, const Origin& from);

struct Value {
  ValueId id = kAbsent;
  std::string name;  // the ONNX tensor that it equals; empty for values that we made
  Fact fact;
  NodeId producer = kNoNode;    // none: graph input or constant
  std::vector<NodeId> readers;  // one entry for each use
  Origin origin;                // ONNX nodes that were folded into this constant or input
  QuantFact quant;  // of a float constant: the grid on which its numbers lie; null: none
  std::optional<DType> stored;  // of a widened constant: the type that its numbers were rounded to
  std::string recipe;           // how the text form spells a constant that is not listed

  const TensorType& type() const { return fact.type; }
  bool is_constant() const { return producer == kNoNode && fact.constant != nullptr; }
};

class Graph;

struct Node {
  NodeId id = kNoNode;
  const OpDef* op = nullptr;
  Attrs attrs;
  std::vector<ValueId> inputs;   // kAbsent for optional ones; what sub-graphs capture comes last
  std::vector<ValueId> outputs;  // kAbsent for optional outputs nobody asked for
  std::vector<std::shared_ptr<const Graph>> subgraphs;
  int32_t captures = 0;  // how many trailing inputs the sub-graphs capture
  Origin origin;
  NodeId previous = kNoNode, next = kNoNode;
  bool alive = true;

  template <class Op>
  const Op& as() const {
    return *static_cast<const Op*>(attrs.get());
  }
  bool is(std::string_view text) const;  // "Add", "planck.Linear"
  // Input i, or kAbsent beyond the end.
  ValueId input(size_t i) const { return i < inputs.size() ? inputs[i] : kAbsent; }
};

class Graph {
 public:
  explicit Graph(const OpTable& ops) : table(&ops) {}

  const OpTable* table;
  std::string name;
  std::vector<ValueId> inputs, outputs;
  std::vector<std::string> output_names;  // as the model declares them
  std::shared_ptr<std::vector<SourceNode>> sources = std::make_shared<std::vector<SourceNode>>();
  Origin unused;  // ONNX nodes that no output ever needed

  // --- reading ---
  const Value& value(ValueId id) const { return values_.at(static_cast<size_t>(id)); }
  const Node& node(NodeId id) const { return nodes_.at(static_cast<size_t>(id)); }
  size_t value_count() const { return values_.size(); }
  size_t node_capacity() const { return nodes_.size(); }  // dead ones included
  int64_t node_count() const { return alive_; }
  NodeId first() const { return first_; }
  NodeId last() const { return last_; }
  NodeId next(NodeId id) const { return node(id).next; }
  // The node that makes the value, or null.
  const Node* producer(ValueId id) const;
  // How often the value is read, as a graph output too.
  int64_t uses(ValueId id) const;
  bool is_output(ValueId id) const;
  // Nodes from `from` on (kNoNode: the first), in order: for (const Node& n : g.nodes_from(id)).
  class NodeRange nodes_from(NodeId from) const;
  class NodeRange nodes() const;
  std::vector<SourceNode> names_of(const Origin& origin) const;

  // --- building (importer, text parser, apply) ---
  ValueId add_value(Fact fact, std::string name = "");
  ValueId add_input(const std::string& name, TensorType type);
  ValueId add_constant(Tensor tensor, std::string name = "");
  // Appends (before == kNoNode) or inserts a node; outputs must be fresh values.
  NodeId add_node(Node node, NodeId before = kNoNode);
  void add_output(ValueId id, std::string name);
  void set_fact(ValueId id, Fact fact) {
    values_.at(static_cast<size_t>(id)).fact = std::move(fact);
  }
  void set_name(ValueId id, std::string name);
  void add_origin(ValueId id, const Origin& origin);
  void add_node_origin(NodeId id, const Origin& origin);
  void set_quant(ValueId id, QuantFact quant);
  void set_stored(ValueId id, std::optional<DType> stored);
  void set_recipe(ValueId id, std::string recipe);
  void replace_uses(ValueId before, ValueId after);
  // One input of one node; the other readers of what it read go on reading that.
  void set_input(NodeId id, size_t input, ValueId value);
  // Unlinks a node none of whose outputs is used. InternalError otherwise.
  void erase(NodeId id);
  // Frees the contents of a constant that nothing reads.
  void forget(ValueId id);
  // Copies every mutable piece; attributes, constants and sub-graphs stay shared.
  Graph clone() const { return *this; }

 private:
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  NodeId first_ = kNoNode, last_ = kNoNode;
  int64_t alive_ = 0;
};

// Forward iteration that survives nothing: do not change the graph inside the loop.
class NodeRange {
 public:
  NodeRange(const Graph& g, NodeId from) : graph_(&g), from_(from) {}
  struct Iterator {
    const Graph* graph;
    NodeId at;
    const Node& operator*() const { return graph->node(at); }
    Iterator& operator++() {
      at = graph->next(at);
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at != other.at; }
  };
  Iterator begin() const { return {graph_, from_}; }
  Iterator end() const { return {graph_, kNoNode}; }

 private:
  const Graph* graph_;
  NodeId from_;
};

// Facts of a node's outputs, from its inputs' facts. Adds the frame "node NAME (Op)".
std::vector<Fact> infer_node(const Graph& g, const Node& n);
// The same for a node that is not in the graph yet; `facts` are its inputs.
std::vector<Fact> infer_outputs(const OpDef& op, const void* attrs,
                                std::span<const Fact* const> facts, size_t outputs,
                                std::string_view fresh_name);

// "%name" or "%12": how messages and the text form call a value.
std::string label(const Graph& g, ValueId id);
// The ONNX names behind a node: "Conv_0 + Relu_1", shortened after three.
std::string origin_text(const Graph& g, const Origin& origin);

// How many scales a tensor of this shape has on the grid; -1 if the grid does not fit it.
int64_t count_of_scales(const QParams& q, std::span<const int64_t> shape);

// Runs body; an error gets the frame "WHAT NAME (Op)" and, if it knows no node yet, this one.
decltype(auto) at_node(std::string_view what, const Graph& g, const Node& n, auto&& body) {
  try {
    return body();
  } catch (Error& e) {
    e.locate(origin_text(g, n.origin), n.op->name, n.op->domain);
    e.add_context(cat(what, ' ', origin_text(g, n.origin), " (", n.op->text(), ')'));
    throw;
  }
}

// --- text form (ir/text.cpp) ---
//   graph(%x: f32[N,768]) {
//     %w = const f32[768,768] normal(7)
//     %0 = MatMul(%x, %w)
//     %a, %b = Split(%0, none) {"axis":-1,"num_outputs":2}
//     return %a, %b
//   }
// Scalars of f32 may stand in place of an operand: Add(%x, 3). Constants: [1,2,3] (row-major),
// splat(v), normal(seed), or opaque(hash) for contents that the text does not carry. The grid of a
// quantised one follows: quant(s8, axis 1, scale [0.5,2]), block and zero [..] where there are any.
std::string print(const Graph& g);
Graph parse_graph(const std::string& text, const OpTable& ops);

// Checks every rule of the structure and that inference agrees; throws InternalError.
void verify(const Graph& g);
void verify_node(const Graph& g, NodeId id);

}  // namespace planck
