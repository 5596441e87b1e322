#include "importer/known.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "base/guard.h"
#include "ops/evaluate.h"

namespace planck::importer {
namespace {

constexpr int64_t kMostElements = 4096;  // of a value on the way: conditions are small
constexpr size_t kMostNodes = 10'000;    // looked at for one question

std::optional<int64_t> count_of(const TensorType& type) {
  int64_t count = 1;
  for (const Dim& d : type.dims) {
    if (!d.known() || *d.known() > kMostElements) return std::nullopt;
    count *= *d.known();
    if (count > kMostElements) return std::nullopt;
  }
  return count;
}

// Whether the outputs are few elements, by inference with what the inputs hold.
bool small_outputs(const Node& n, std::span<const Wide* const> in) {
  std::vector<Fact> facts(in.size());
  std::vector<const Fact*> given;
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i] != nullptr) {
      auto constant = std::make_shared<const Tensor>(narrow(*in[i]));
      facts[i] = {constant->type(), constant, std::nullopt};
    }
    given.push_back(in[i] == nullptr ? nullptr : &facts[i]);
  }
  const auto out = infer_outputs(*n.op, n.attrs.get(), given, n.outputs.size(), "known");
  return std::ranges::all_of(out, [](const Fact& f) { return count_of(f.type).has_value(); });
}

}  // namespace

// A constant, or contents that inference found.
bool KnownValues::take(ValueId v) {
  const Fact& fact = graph_.value(v).fact;
  if (!count_of(fact.type)) return false;
  if (fact.constant != nullptr) {
    values_[v] = widen(*fact.constant);
    return true;
  }
  if (!fact.contents || is_float(fact.type.dtype)) return false;
  Wide wide(fact.type.dtype, {});
  for (const Dim& d : fact.type.dims) wide.shape.push_back(*d.known());
  wide.integer.clear();
  for (const Dim& d : *fact.contents) {
    if (!d.known()) return false;
    wide.integer.push_back(*d.known());
  }
  values_[v] = std::move(wide);
  return true;
}

// All inputs are settled: evaluates the node if they are known.
bool KnownValues::compute(const Node& n) {
  std::vector<const Wide*> in;
  for (const ValueId v : n.inputs) {
    in.push_back(v == kAbsent ? nullptr : values_.at(v) ? &*values_.at(v) : nullptr);
    if (v != kAbsent && in.back() == nullptr) return false;
  }
  if (!small_outputs(n, in)) return false;
  std::vector<Wide> out(n.outputs.size());
  const Bindings none;
  Evaluation call{in, out, &none};
  evaluate(*n.op, n.attrs.get(), call);
  for (size_t i = 0; i < out.size(); ++i) {
    if (n.outputs[i] != kAbsent) values_[n.outputs[i]] = std::move(out[i]);
  }
  return true;
}

const Wide* KnownValues::find(ValueId v) {
  std::vector<ValueId> todo = {v};
  size_t seen = 0;
  while (!todo.empty()) {
    check_guard();
    const ValueId at = todo.back();
    const Node* maker = graph_.producer(at);
    if (values_.contains(at) || take(at)) {
      todo.pop_back();
      continue;
    }
    std::vector<ValueId> open;
    if (maker != nullptr) {
      for (const ValueId in : maker->inputs) {
        if (in != kAbsent && !values_.contains(in)) open.push_back(in);
      }
    }
    if (!open.empty() && ++seen <= kMostNodes) {
      todo.insert(todo.end(), open.begin(), open.end());
      continue;
    }
    todo.pop_back();
    if (maker == nullptr || !open.empty() || !compute(*maker)) values_[at] = std::nullopt;
  }
  const std::optional<Wide>& found = values_.at(v);
  return found ? &*found : nullptr;
}

std::optional<int64_t> KnownValues::number(ValueId v) {
  const Wide* wide = find(v);
  if (wide == nullptr || wide->floating() || wide->integer.size() != 1) return std::nullopt;
  return wide->integer[0];
}

}  // namespace planck::importer
