#include "ir/pattern.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

namespace planck {

namespace {

using Kind = PatNode::Kind;

Pat make(Kind kind, std::string name, std::vector<Pat> parts = {}) {
  auto node = std::make_shared<PatNode>();
  node->kind = kind;
  node->name = std::move(name);
  node->parts = std::move(parts);
  return node;
}

// How `number` reads after it was stored as t.
double stored(double number, DType t) {
  Wide wide(t, {});
  if (wide.floating()) {
    wide.real[0] = number;
  } else {
    wide.integer[0] = static_cast<int64_t>(number);
    if (static_cast<double>(wide.integer[0]) != number) return std::nan("");  // 0.5 is no integer
  }
  return widen(narrow(wide)).at(0);
}

// The type to which the constant's numbers are rounded.
DType type_of_numbers(const Value& v) { return v.stored.value_or(v.type().dtype); }

double element(const Tensor& t, int64_t i) {
  if (t.dtype() == DType::f32) return t.as<float>()[i];
  const std::byte* data = t.data() + i * size_of(t.dtype());
  return widen(Tensor(t.dtype(), {}, data, nullptr)).at(0);
}

}  // namespace

Pat var(std::string name) { return make(Kind::symbol, std::move(name)); }
Pat constant(std::string name) { return make(Kind::constant, std::move(name)); }
Pat absent() { return make(Kind::absent, ""); }
Pat either(std::vector<Pat> choices) { return make(Kind::either, "", std::move(choices)); }

Pat lit(double number) {
  auto node = std::make_shared<PatNode>();
  node->kind = Kind::literal;
  node->number = number;
  return node;
}

Pat op(std::string name, std::vector<Pat> inputs, NodeCheck check) {
  auto node = std::make_shared<PatNode>();
  node->kind = Kind::op;
  node->name = std::move(name);
  node->parts = std::move(inputs);
  node->check = check;
  return node;
}

Pat named(const std::string& bound, const Pat& op) {
  auto node = std::make_shared<PatNode>(*op);
  node->bound = bound;
  return node;
}

std::optional<double> scalar_of(const Graph& g, ValueId id) {
  if (id == kAbsent || !g.value(id).is_constant()) return std::nullopt;
  const Tensor& t = *g.value(id).fact.constant;
  return t.count() == 1 ? std::optional(element(t, 0)) : std::nullopt;
}

bool is_scalar(const Graph& g, ValueId id, double number) {
  const std::optional<double> have = scalar_of(g, id);
  return have && *have == stored(number, type_of_numbers(g.value(id)));
}

bool is_splat(const Graph& g, ValueId id, double number) {
  if (id == kAbsent || !g.value(id).is_constant()) return false;
  const Tensor& t = *g.value(id).fact.constant;
  const double want = stored(number, type_of_numbers(g.value(id)));
  // The first element nearly always decides.
  for (int64_t i = 0; i < t.count(); ++i) {
    if (element(t, i) != want) return false;
  }
  return t.count() > 0;
}

bool Match::has(std::string_view name) const {
  return std::ranges::any_of(symbols_, [&](const auto& s) { return s.first == name; });
}

const Value& Match::operator[](std::string_view name) const {
  for (const auto& [symbol, value] : symbols_) {
    if (symbol == name) return graph_->value(value);
  }
  throw InternalError("the formula has no value called '", name, "'");
}

const Value* Match::read_outside() const {
  for (const NodeId id : interior_) {
    for (const ValueId v : graph_->node(id).outputs) {
      if (v == kAbsent || v == root()) continue;
      const bool inside = !graph_->is_output(v) &&
                          std::ranges::all_of(graph_->value(v).readers, [&](NodeId reader) {
                            return std::ranges::find(interior_, reader) != interior_.end();
                          });
      if (!inside) return &graph_->value(v);
    }
  }
  return nullptr;
}

// Continuation style: what follows must succeed too, otherwise the bindings are undone. The
// number of steps is bounded, so that no graph makes matching exponential.
class Matcher {
 public:
  using Next = std::function<bool()>;
  Matcher(const Graph& g, Match& m) : graph_(g), match_(m) {}

  bool value(ValueId v, const Pat& p, const Next& next) {
    if (++steps_ > kMostSteps) return false;
    switch (p->kind) {
      case Kind::symbol:
        return v != kAbsent && bind(v, p->name, next);
      case Kind::constant:
        return v != kAbsent && graph_.value(v).is_constant() && bind(v, p->name, next);
      case Kind::literal:
        return is_scalar(graph_, v, p->number) && next();
      case Kind::absent:
        return v == kAbsent && next();
      case Kind::either:
        return std::ranges::any_of(p->parts, [&](const Pat& q) { return value(v, q, next); });
      case Kind::op:
        return operation(v, p, next);
    }
    return false;
  }

 private:
  static constexpr int kMostSteps = 20000;

  bool bind(ValueId v, std::string_view name, const Next& next) {
    for (const auto& [symbol, known] : match_.symbols_) {
      if (symbol == name) return known == v && next();
    }
    match_.symbols_.emplace_back(name, v);
    if (next()) return true;
    match_.symbols_.pop_back();
    return false;
  }

  bool operation(ValueId v, const Pat& p, const Next& next) {
    const Node* n = graph_.producer(v);
    if (n == nullptr || n->outputs[0] != v) return false;
    const size_t mark = match_.interior_.size();
    match_.interior_.push_back(n->id);
    const bool hit = n->is(p->name) ? (p->check == nullptr || p->check(graph_, *n)) &&
                                          inputs(*n, p, bound(v, p, next))
                     : transparent(*n) ? n->id != match_.at() && value(n->inputs[0], p, next)
                                       : false;
    if (!hit) match_.interior_.resize(mark);
    return hit;
  }

  // After the inputs fit, the value's own name must fit too.
  Next bound(ValueId v, const Pat& p, const Next& next) {
    if (p->bound.empty()) return next;
    return [this, v, &p, &next] { return bind(v, p->bound, next); };
  }

  bool transparent(const Node& n) const {
    if (n.is("Identity")) return true;
    return n.is("Cast") && is_float(graph_.value(n.inputs[0]).type().dtype) &&
           is_float(graph_.value(n.outputs[0]).type().dtype);
  }

  bool inputs(const Node& n, const Pat& p, const Next& next) {
    if (!n.is("Add") && !n.is("Mul")) return in_order(n, p, 0, next);
    std::vector<Pat> parts;
    for (const Pat& part : p->parts) flatten(part, p->name, parts);
    return any_bracketing(n.inputs, 0, parts, *n.op, next);
  }

  bool in_order(const Node& n, const Pat& p, size_t i, const Next& next) {
    if (i == p->parts.size()) {
      for (size_t k = i; k < n.inputs.size(); ++k) {
        if (n.inputs[k] != kAbsent) return false;
      }
      return next();
    }
    return value(n.input(i), p->parts[i], [&] { return in_order(n, p, i + 1, next); });
  }

  static void flatten(const Pat& p, const std::string& op, std::vector<Pat>& out) {
    // A partial result with a name of its own stays one value.
    if (p->kind != Kind::op || p->name != op || !p->bound.empty() || p->check != nullptr) {
      out.push_back(p);
      return;
    }
    for (const Pat& part : p->parts) flatten(part, op, out);
  }

  // Opens operands from `from` on until there are as many as the formula has parts.
  bool any_bracketing(const std::vector<ValueId>& operands, size_t from,
                      const std::vector<Pat>& parts, const OpDef& op, const Next& next) {
    if (operands.size() == parts.size()) return any_order(operands, parts, 0, next);
    for (size_t k = from; k < operands.size(); ++k) {
      const Node* inner = graph_.producer(operands[k]);
      if (inner == nullptr || inner->op != &op || graph_.uses(operands[k]) != 1) continue;
      std::vector<ValueId> opened = operands;
      opened[k] = inner->inputs[0];
      opened.insert(opened.begin() + static_cast<ptrdiff_t>(k) + 1, inner->inputs[1]);
      match_.interior_.push_back(inner->id);
      if (any_bracketing(opened, k, parts, op, next)) return true;
      match_.interior_.pop_back();
    }
    return false;
  }

  bool any_order(std::vector<ValueId> vs, const std::vector<Pat>& ps, size_t i, const Next& next) {
    if (i == ps.size()) return next();
    for (size_t k = i; k < vs.size(); ++k) {
      std::swap(vs[i], vs[k]);
      if (value(vs[i], ps[i], [&] { return any_order(vs, ps, i + 1, next); })) return true;
      std::swap(vs[i], vs[k]);
    }
    return false;
  }

  const Graph& graph_;
  Match& match_;
  int steps_ = 0;
};

namespace {

// Most nodes are dismissed here, before anything is allocated.
bool may_start(const Pat& p, const Node& n) {
  if (p->kind == Kind::op) return n.is(p->name);
  if (p->kind != Kind::either) return true;
  return std::ranges::any_of(p->parts, [&](const Pat& q) { return may_start(q, n); });
}

}  // namespace

std::optional<Match> match(const Graph& g, const Node& root, const Pat& formula) {
  if (root.outputs.empty() || root.outputs[0] == kAbsent || !may_start(formula, root)) {
    return std::nullopt;
  }
  Match m(g, root);
  if (!Matcher(g, m).value(root.outputs[0], formula, [] { return true; })) return std::nullopt;
  return m;
}

}  // namespace planck
