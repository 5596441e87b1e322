// passes/infer.cpp: facts that became sharper since the nodes were made, in one patch.
#include <optional>
#include <unordered_map>

#include "base/guard.h"
#include "passes/passes.h"

namespace planck {

namespace {

// A number says more than a symbol, and a symbol of an input more than "only the run knows".
bool says_more(const Dim& fresh, const Dim& known) {
  if (known.is_constant()) return false;
  const auto late = [](const Dim& d) {
    for (const std::string& s : d.symbols()) {
      if (s.starts_with('?')) return true;
    }
    return false;
  };
  return fresh.is_constant() || (late(known) && !late(fresh));
}

bool sharpen(std::vector<Dim>& known, const std::vector<Dim>& fresh) {
  bool changed = false;
  for (size_t i = 0; i < known.size(); ++i) {
    if (!says_more(fresh[i], known[i])) continue;
    known[i] = fresh[i];
    changed = true;
  }
  return changed;
}

// Takes from `fresh` what says more than `known`; whether there was anything.
bool sharpen(Fact& known, const Fact& fresh) {
  bool changed = sharpen(known.type.dims, fresh.type.dims);
  if (fresh.contents && known.contents && fresh.contents->size() == known.contents->size()) {
    changed = sharpen(*known.contents, *fresh.contents) || changed;
  }
  if (!fresh.contents || known.constant != nullptr) return changed;
  if (!known.contents || known.contents->size() != fresh.contents->size()) {
    if (known.contents) return changed;
    known.contents = fresh.contents;
    return true;
  }
  for (size_t i = 0; i < known.contents->size(); ++i) {
    if (!says_more((*fresh.contents)[i], (*known.contents)[i])) continue;
    (*known.contents)[i] = (*fresh.contents)[i];
    changed = true;
  }
  return changed;
}

class Sharpener {
 public:
  Sharpener(const Graph& g, NodeId from) : graph_(g), patch_(g, from) {}

  void visit(const Node& n) {
    if (!n.subgraphs.empty()) return;  // their facts come with the importer
    std::vector<const Fact*> facts;
    for (const ValueId v : n.inputs) facts.push_back(v == kAbsent ? nullptr : &fact(v));
    const std::string fresh = cat(n.op->name, n.outputs.empty() ? kAbsent : n.outputs[0]);
    const std::vector<Fact> inferred = at_node("node", graph_, n, [&] {
      return infer_outputs(*n.op, n.attrs.get(), facts, n.outputs.size(), fresh);
    });
    for (size_t i = 0; i < inferred.size(); ++i) merge(n.outputs[i], inferred[i]);
  }

  std::optional<Patch> take() {
    if (sharper_.empty()) return std::nullopt;
    for (auto& [value, fact] : sharper_) patch_.refine(value, std::move(fact));
    return std::move(patch_);
  }

 private:
  const Fact& fact(ValueId v) const {
    const auto it = sharper_.find(v);
    return it == sharper_.end() ? graph_.value(v).fact : it->second;
  }
  void merge(ValueId v, const Fact& inferred) {
    if (v == kAbsent || inferred.type.rank() != fact(v).type.rank()) return;
    Fact known = fact(v);
    if (sharpen(known, inferred)) sharper_[v] = std::move(known);
  }

  const Graph& graph_;
  Patch patch_;
  std::unordered_map<ValueId, Fact> sharper_;
};

std::optional<Patch> infer(const Graph& g, NodeId from, PassReport&) {
  Sharpener sharpener(g, from);
  for (const Node& n : g.nodes_from(from)) {
    check_guard();
    sharpener.visit(n);
  }
  return sharpener.take();
}

}  // namespace

std::optional<Patch> sharper_facts(const Graph& g, const Node& n) {
  Sharpener sharpener(g, n.id);
  sharpener.visit(n);
  return sharpener.take();
}

Pass pass_infer() { return {"infer", infer}; }

}  // namespace planck
