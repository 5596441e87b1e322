// passes/cse.cpp: of equal nodes the first one stays.
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "base/guard.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// Small constants are the same if their contents are; comparing large ones would cost more than
// it brings.
constexpr int64_t kSmall = 256;

class Cse {
 public:
  std::optional<Patch> next(const Graph& g, NodeId from) {
    if (from == g.first()) seen_.clear();  // a new scan; otherwise what came before still holds
    for (const Node& n : g.nodes_from(from)) {
      check_guard();
      if (!n.subgraphs.empty()) continue;
      const auto [it, fresh] = seen_.emplace(key(g, n), n.id);
      if (fresh) continue;
      const Node& first = g.node(it->second);
      if (it->second == n.id) continue;
      if (!first.alive || first.op != n.op) {
        it->second = n.id;
        continue;
      }
      return merged(g, n, first);
    }
    return std::nullopt;
  }

 private:
  static std::string key(const Graph& g, const Node& n) {
    std::string text = cat(n.op->text(), n.op->print(n.attrs.get()).dump(), '#', n.outputs.size());
    for (const ValueId v : n.inputs) text += operand(g, v);
    // An output that nobody asked for cannot stand for one that somebody reads.
    for (const ValueId v : n.outputs) text += v == kAbsent ? '-' : '+';
    return text;
  }

  static std::string grid(const QuantFact& q) {
    if (q == nullptr) return "";
    return cat('(', q->dtype, ' ', q->axis, ' ', q->block, ' ', joined(q->scale, ","), ' ',
               joined(q->zero_point, ","), ')');
  }

  static std::string operand(const Graph& g, ValueId v) {
    if (!is_constant(g, v) || g.value(v).fact.constant->bytes() > kSmall) return cat(" %", v);
    const Tensor& t = *g.value(v).fact.constant;
    return cat(' ', t.dtype(), shape_text(t.shape()), grid(g.value(v).quant), '=') +
           std::string(reinterpret_cast<const char*>(t.data()), static_cast<size_t>(t.bytes()));
  }

  static Patch merged(const Graph& g, const Node& n, const Node& first) {
    Patch patch(g, n.id);
    for (size_t i = 0; i < n.outputs.size(); ++i) {
      if (n.outputs[i] != kAbsent) patch.replace(n.outputs[i], first.outputs[i]);
    }
    return patch;
  }

  std::unordered_map<std::string, NodeId> seen_;
};

}  // namespace

Pass pass_cse() {
  const auto cse = std::make_shared<Cse>();
  return {"cse", [cse](const Graph& g, NodeId from, PassReport&) { return cse->next(g, from); }};
}

}  // namespace planck
