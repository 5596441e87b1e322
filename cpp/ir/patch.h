#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ir/graph.h"

namespace planck {

// A change described, not made: nodes to insert before `at`, values to replace, facts to refine.
// Only apply() makes it, and only the driver calls apply().
class Patch {
 public:
  Patch(const Graph& g, NodeId at) : graph_(&g), at_(at) {}

  // Adds op(inputs) with inferred facts; the ids are valid in the patched graph.
  // clang-tidy 14 does not see the moves inside templates.
  // NOLINTBEGIN(performance-unnecessary-value-param)
  template <class Op>
  requires requires { Op::kText; }
  ValueId add(const Op& attrs, std::vector<ValueId> inputs) {
    return add_many(attrs, std::move(inputs), 1)[0];
  }
  template <class Op>
  requires requires { Op::kText; }
  std::vector<ValueId> add_many(const Op& attrs, std::vector<ValueId> inputs, size_t outputs) {
    return add_node(Op::kText, std::make_shared<const Op>(attrs), std::move(inputs), outputs);
  }
  // NOLINTEND(performance-unnecessary-value-param)
  // The same by name, with attributes that another node has or none (all defaults).
  ValueId add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = nullptr);
  std::vector<ValueId> add_node(std::string_view op, Attrs attrs, std::vector<ValueId> inputs,
                                size_t outputs);
  // `quant`: the grid of a float constant that was dequantised. `stored`: the type that one was
  // widened from.
  ValueId constant(Tensor tensor, QuantFact quant = nullptr, std::optional<DType> stored = {});
  // Every reader of `before` reads `after` from now on; `after` takes the name if it has none.
  void replace(ValueId before, ValueId after) { replaced_.emplace_back(before, after); }
  // The new value `after` takes the name of `before`, which another one replaces.
  void pass_name(ValueId before, ValueId after) { named_.emplace_back(before, after); }
  // Takes out a node that nothing reads; its ONNX nodes go to Graph::unused.
  void remove(NodeId node) { removed_.push_back(node); }
  // The new node that makes `value` stands for the ONNX nodes that the patch replaces; without
  // this call it is the last new node.
  void credit(ValueId value) { credited_ = value; }
  void refine(ValueId value, Fact fact) { refined_.emplace_back(value, std::move(fact)); }

  NodeId at() const { return at_; }
  const Fact& fact(ValueId id) const;  // of a value of the graph or of this patch
  const TensorType& type(ValueId id) const { return fact(id).type; }
  const QuantFact& quant(ValueId id) const;

 private:
  friend NodeId apply(Graph& g, const Patch& patch);
  struct NewValue {
    Fact fact;
    QuantFact quant;
    std::optional<DType> stored{};
  };
  const Graph* graph_;
  NodeId at_;
  std::vector<NewValue> values_;
  std::vector<Node> nodes_;
  std::vector<std::pair<ValueId, ValueId>> replaced_;
  std::vector<std::pair<ValueId, ValueId>> named_;
  std::vector<std::pair<ValueId, Fact>> refined_;
  std::vector<NodeId> removed_;
  ValueId credited_ = kAbsent;
};

// Makes the change in place, removes what became dead, and hands the origins of removed nodes to
// what took their place. Returns the node from which a pass should go on looking (kNoNode: the
// end). Verifies what it touched.
NodeId apply(Graph& g, const Patch& patch);

// Why a fusion did not fire. no_match is not reported.
struct Refusal {
  std::string text;
};
using Outcome = std::variant<Patch, Refusal>;
inline Refusal refuse(const auto&... parts) { return {cat(parts...)}; }

}  // namespace planck
