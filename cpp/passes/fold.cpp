// passes/fold.cpp: nodes whose inputs are all constant, and values whose contents are known
// numbers, become constants.
#include <algorithm>
#include <memory>
#include <optional>

#include "base/checked.h"
#include "ops/evaluate.h"
#include "ops/support.h"
#include "passes/passes.h"
#include "passes/tools.h"

namespace planck {

namespace {

// A model whose constants unfold into more than this is better off computing them in the run.
constexpr int64_t kMostOfANode = int64_t{64} << 20;
constexpr int64_t kMostOfAModel = int64_t{1} << 30;

// Dequantised weights would lose their scales, and with them the integer kernels.
bool keeps_form(const Node& n) { return n.is("DequantizeLinear") || n.is("QuantizeLinear"); }

bool has_constant_inputs(const Graph& g, const Node& n) {
  if (!n.subgraphs.empty() || keeps_form(n)) return false;
  return std::ranges::all_of(n.inputs,
                             [&](ValueId v) { return v == kAbsent || is_constant(g, v); });
}

// Bytes of the outputs; nothing if only an evaluation tells.
std::optional<int64_t> bytes_of_outputs(const Graph& g, const Node& n) {
  int64_t bytes = 0;
  for (const ValueId v : n.outputs) {
    if (v == kAbsent) continue;
    const auto shape = known_shape(dims_of(g, v));
    if (!shape) return std::nullopt;
    bytes = checked_add(bytes, checked_mul(checked_count(*shape), size_of(dtype_of(g, v))));
  }
  return bytes;
}

std::vector<Wide> evaluated(const Graph& g, const Node& n) {
  std::vector<Wide> wide(n.inputs.size());
  std::vector<const Wide*> in(n.inputs.size(), nullptr);
  for (size_t i = 0; i < n.inputs.size(); ++i) {
    if (n.inputs[i] == kAbsent) continue;
    wide[i] = widen(*g.value(n.inputs[i]).fact.constant);
    in[i] = &wide[i];
  }
  std::vector<Wide> out(n.outputs.size());
  const Bindings none;
  Evaluation call{in, out, &none};
  evaluate(*n.op, n.attrs.get(), call);
  return out;
}

// Contents of the value as a constant, if all of them are numbers.
std::optional<Tensor> numbers_of(const Value& v) {
  const auto shape = known_shape(v.type().dims);
  if (!v.fact.contents || !shape) return std::nullopt;
  Wide wide(v.type().dtype, *shape);
  if (wide.floating() || wide.count() != static_cast<int64_t>(v.fact.contents->size())) {
    return std::nullopt;
  }
  for (size_t i = 0; i < wide.integer.size(); ++i) {
    const Dim& d = (*v.fact.contents)[i];
    if (!d.is_constant()) return std::nullopt;
    wide.integer[i] = d.constant();
  }
  return narrow(wide);
}

class Fold {
 public:
  std::optional<Patch> next(const Graph& g, NodeId from, PassReport& report) {
    for (const Node& n : g.nodes_from(from)) {
      if (auto patch = has_constant_inputs(g, n) ? whole(g, n, report) : known(g, n)) return patch;
    }
    return std::nullopt;
  }

 private:
  std::optional<Patch> whole(const Graph& g, const Node& n, PassReport& report) {
    const std::optional<int64_t> bytes = bytes_of_outputs(g, n);
    if (bytes && *bytes > kMostOfANode) {
      report.refuse("fold", g, n,
                    cat("the result takes ", *bytes, " bytes, more than the limit of ",
                        kMostOfANode, " for a node"));
      return std::nullopt;
    }
    if (spent_ + bytes.value_or(0) > kMostOfAModel) {
      report.refuse(
          "fold", g, n,
          cat("the constants of the model would take more than ", kMostOfAModel, " bytes"));
      return std::nullopt;
    }
    try {
      return replaced(g, n, evaluated(g, n));
    } catch (const Error& e) {  // the run will say the same, if it gets here at all
      report.refuse("fold", g, n, e.what());
      return std::nullopt;
    }
  }

  std::optional<Patch> replaced(const Graph& g, const Node& n, const std::vector<Wide>& results) {
    Patch patch(g, n.id);
    for (size_t i = 0; i < results.size(); ++i) {
      if (n.outputs[i] == kAbsent) continue;
      Tensor t = narrow(results[i], dtype_of(g, n.outputs[i]));
      spent_ += t.bytes();
      patch.replace(n.outputs[i], patch.constant(std::move(t)));
    }
    return patch;
  }

  static std::optional<Patch> known(const Graph& g, const Node& n) {
    if (n.outputs.size() != 1 || n.outputs[0] == kAbsent) return std::nullopt;
    std::optional<Tensor> t = numbers_of(g.value(n.outputs[0]));
    if (!t) return std::nullopt;
    Patch patch(g, n.id);
    patch.replace(n.outputs[0], patch.constant(std::move(*t)));
    return patch;
  }

  int64_t spent_ = 0;
};

}  // namespace

Pass pass_fold() {
  const auto fold = std::make_shared<Fold>();
  return {"fold", [fold](const Graph& g, NodeId from, PassReport& report) {
            return fold->next(g, from, report);
          }};
}

}  // namespace planck
