#include "builder/observe.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/nearest.h"
#include "importer/importer.h"
#include "ops/ops.h"
#include "passes/place_facts.h"

namespace planck {
namespace {

bool is_matrix_product(const Node& n) { return n.is("MatMul") || n.is("Gemm"); }
bool is_convolution(const Node& n) { return n.is("Conv") || n.is("ConvTranspose"); }
bool is_product(const Node& n) { return is_matrix_product(n) || is_convolution(n); }

class Finder {
 public:
  explicit Finder(const Graph& g)
      : g_(g), facts_(g), rows_(g.value_count()), parent_(g.value_count()) {
    std::iota(parent_.begin(), parent_.end(), ValueId{0});
  }

  Activations run() {
    for (const Node& n : g_.nodes()) visit(n);
    for (const ValueId id : g_.inputs) {
      row(id).input = true;
      list(id);
    }
    for (const Node& n : g_.nodes()) {
      for (const ValueId id : n.outputs) list(id);
    }
    number_groups();
    return std::move(found_);
  }

 private:
  const Graph& g_;
  const PlaceFacts facts_;
  std::vector<Activation> rows_;  // by value
  std::vector<ValueId> parent_;   // of values that share a grid, a forest
  Activations found_;
  std::vector<ValueId> listed_;  // values of found_.floats

  Activation& row(ValueId id) { return rows_[static_cast<size_t>(id)]; }

  // What is made of constants alone, such as a weight stored in half precision, is none.
  bool is_activation(ValueId id) const {
    return id != kAbsent && !facts_.is_fixed(id) && is_float(g_.value(id).type().dtype);
  }

  // The one activation among the inputs; kAbsent for none or several.
  ValueId only_activation(const Node& n) const {
    ValueId found = kAbsent;
    for (const ValueId id : n.inputs) {
      if (!is_activation(id)) continue;
      if (found != kAbsent && found != id) return kAbsent;
      found = id;
    }
    return found;
  }

  void visit(const Node& n) {
    if (is_product(n)) visit_product(n);
    if (n.is("Add")) visit_add(n);
    if (n.is("MaxPool") || n.is("Concat")) visit_shared(n);
  }

  void visit_product(const Node& n) {
    for (size_t i = 0; i < std::min<size_t>(2, n.inputs.size()); ++i) {
      if (!is_activation(n.inputs[i])) continue;
      const ValueId named = named_behind(n.inputs[i]);
      if (named == kAbsent) continue;
      row(named).product = true;
      if (named != n.inputs[i]) continue;  // moved on the way: its axes are others
      row(named).channels = row(named).channels || is_matrix_product(n);
      row(named).windows = row(named).windows || is_convolution(n);
    }
    if (n.outputs[0] != kAbsent) row(n.outputs[0]).product = true;
  }

  // A sum of two activations, one of them from a product: a residual.
  void visit_add(const Node& n) {
    const bool fed = std::ranges::any_of(n.inputs, [&](ValueId id) { return from_product(id); });
    if (!fed || only_activation(n) != kAbsent) return;
    for (const ValueId id : n.inputs) {
      if (is_activation(id)) row(id).product = true;
    }
  }

  // Constants take the grid that the rest has.
  void visit_shared(const Node& n) {
    if (!is_activation(n.outputs[0])) return;
    const ValueId output = n.outputs[0];
    row(output).product = true;
    for (const ValueId id : n.inputs) {
      if (!is_activation(id)) continue;
      row(id).product = true;
      parent_[static_cast<size_t>(root(id))] = root(output);
    }
  }

  ValueId root(ValueId id) const {
    while (parent_[static_cast<size_t>(id)] != id) id = parent_[static_cast<size_t>(id)];
    return id;
  }

  // What an importer's rewriting left without a name holds the numbers of what it was made from,
  // as long as they are only moved.
  ValueId named_behind(ValueId id) const {
    while (g_.value(id).name.empty()) {
      const Node* n = g_.producer(id);
      if (n == nullptr) return kAbsent;
      const bool moves = n->is("Transpose") || n->is("Reshape") || n->is("Squeeze") ||
                         n->is("Unsqueeze") || n->is("Identity");
      if (!moves) return kAbsent;
      id = n->inputs[0];
    }
    return id;
  }

  // Through what has one activation: BatchNormalization, a bias, an activation function.
  bool from_product(ValueId id) const {
    constexpr int kSteps = 8;
    for (int step = 0; step < kSteps && id != kAbsent; ++step) {
      const Node* n = g_.producer(id);
      if (n == nullptr) return false;
      if (is_product(*n)) return true;
      id = only_activation(*n);
    }
    return false;
  }

  void list(ValueId id) {
    if (id == kAbsent || g_.value(id).name.empty()) return;
    const Value& v = g_.value(id);
    if (!is_float(v.type().dtype)) {
      found_.others.push_back(v.name);
      return;
    }
    row(id).name = v.name;
    row(id).dtype = v.type().dtype;
    found_.floats.push_back(row(id));
    listed_.push_back(id);
  }

  // Numbers from 0 on, by the first tensor; tensors that are alone have none.
  void number_groups() {
    std::map<ValueId, std::vector<size_t>> members;
    for (size_t i = 0; i < listed_.size(); ++i) members[root(listed_[i])].push_back(i);
    std::map<size_t, const std::vector<size_t>*> by_first;
    for (const auto& [_, rows] : members) {
      if (rows.size() > 1) by_first[rows[0]] = &rows;
    }
    int64_t number = 0;
    for (const auto& [_, rows] : by_first) {
      for (const size_t i : *rows) found_.floats[i].group = number;
      ++number;
    }
  }
};

ImportOptions as_built(const BuildOptions& o) {
  return {o.limits, o.external_data_dir, o.dims, o.initializers, o.fed_initializers};
}

}  // namespace

Activations activations_of(const Graph& g) { return Finder(g).run(); }

Activations activations_of_file(const std::string& path, const BuildOptions& options) {
  return typed([&] { return activations_of(import_file(path, builtin_ops(), as_built(options))); });
}

Activations activations_of_bytes(std::span<const std::byte> model, const BuildOptions& options) {
  return typed(
      [&] { return activations_of(import_bytes(model, builtin_ops(), as_built(options))); });
}

void add_extra_outputs(Graph& g, const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::map<std::string, ValueId> by_name;
  std::vector<std::string> known;
  for (size_t i = 0; i < g.value_count(); ++i) {
    const Value& v = g.value(static_cast<ValueId>(i));
    if (v.name.empty() || v.is_constant() || !by_name.emplace(v.name, v.id).second) continue;
    known.push_back(v.name);
  }
  for (const std::string& name : names) {
    const auto at = by_name.find(name);
    if (at == by_name.end()) {
      const std::string near = joined(nearest_names(name, known));
      throw with(UsageError("extra_outputs: the model computes no tensor '", name, "'",
                            near.empty() ? "" : "; nearest: ", near),
                 {.expected = near, .got = name});
    }
    if (std::ranges::find(g.output_names, name) == g.output_names.end()) {
      g.add_output(at->second, name);
    }
  }
}

}  // namespace planck
