#pragma once
// Formulas to look for in a graph. What is written down is dataflow: names, order and bracketing
// of sums and products do not matter.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/graph.h"

namespace planck {

struct PatNode;
using Pat = std::shared_ptr<const PatNode>;
using NodeCheck = bool (*)(const Graph& g, const Node& n);

struct PatNode {
  enum class Kind : uint8_t { symbol, constant, literal, op, either, absent };
  Kind kind = Kind::symbol;
  std::string name;        // of a symbol or constant; text of an op ("Add", "planck.Linear")
  double number = 0;       // of a literal
  NodeCheck check = {};    // of an op, or none
  std::string bound;       // an op's result may have a name as well
  std::vector<Pat> parts;  // an op's inputs, either's choices
};

Pat var(std::string name);       // any value; the same name is the same value
Pat constant(std::string name);  // any constant
// A constant of one element that equals `number` rounded to the constant's own type, or to the one
// that it was stored in.
Pat lit(double number);
Pat absent();  // an optional input that is not given
// Output 0 of op(inputs). Inputs beyond those listed must be absent. Add and Mul match in any
// order and bracketing, where partial results have no other reader.
Pat op(std::string name, std::vector<Pat> inputs, NodeCheck check = nullptr);
// The same, and the value is called `bound` in the match.
Pat named(const std::string& bound, const Pat& op);
Pat either(std::vector<Pat> choices);  // the first that fits

inline Pat operator+(const Pat& a, const Pat& b) { return op("Add", {a, b}); }
inline Pat operator*(const Pat& a, const Pat& b) { return op("Mul", {a, b}); }
inline Pat operator-(const Pat& a, const Pat& b) { return op("Sub", {a, b}); }
inline Pat operator/(const Pat& a, const Pat& b) { return op("Div", {a, b}); }
inline Pat operator+(const Pat& a, double c) { return a + lit(c); }
inline Pat operator*(const Pat& a, double c) { return a * lit(c); }
inline Pat operator/(const Pat& a, double c) { return a / lit(c); }

class Match {
 public:
  Match(const Graph& g, const Node& root) : graph_(&g), root_(&root) {}

  const Value& operator[](std::string_view name) const;  // InternalError if it has no value
  bool has(std::string_view name) const;
  const Node& node() const { return *root_; }
  NodeId at() const { return root_->id; }
  ValueId root() const { return root_->outputs[0]; }
  // The first value made inside the formula that is read outside of it, or null.
  const Value* read_outside() const;
  const std::vector<NodeId>& interior() const { return interior_; }

 private:
  friend class Matcher;
  const Graph* graph_;
  const Node* root_;
  std::vector<std::pair<std::string_view, ValueId>> symbols_;
  std::vector<NodeId> interior_;
};

// The formula at output 0 of the node. Casts between float types and Identities are looked
// through inside the formula, never at its variables.
std::optional<Match> match(const Graph& g, const Node& root, const Pat& formula);

// The number that a constant of one element holds; nothing for other values.
std::optional<double> scalar_of(const Graph& g, ValueId id);
// Whether the value is a constant of one element equal to `number` in its own type.
bool is_scalar(const Graph& g, ValueId id, double number);
// All elements equal `number` in the constant's own type (any shape).
bool is_splat(const Graph& g, ValueId id, double number);

}  // namespace planck
