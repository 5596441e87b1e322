// passes/fold.cpp: nodes whose inputs are all constant, and values whose contents are known
// numbers, become constants. What that tells of shapes further on is inferred on the way, so that
// arithmetic on shapes through any op folds in one go. What was dequantised keeps its grid.
#include <algorithm>
#include <memory>
#include <optional>

#include "base/checked.h"
#include "base/guard.h"
#include "ops/evaluate.h"
#include "ops/support.h"
#include "passes/passes.h"
#include "passes/quant_facts.h"
#include "passes/tools.h"

namespace planck {

namespace {

// Whether an extent of a result follows from the inputs of the run.
bool depends_on_run(const Graph& g, const Node& n) {
  return std::ranges::any_of(n.outputs, [&](ValueId v) {
    if (v == kAbsent) return false;
    return std::ranges::any_of(dims_of(g, v), [](const Dim& d) {
      const std::vector<std::string> symbols = d.symbols();
      return std::ranges::any_of(symbols, [](const auto& s) { return !s.starts_with('?'); });
    });
  });
}

bool has_constant_inputs(const Graph& g, const Node& n) {
  if (!n.subgraphs.empty() || depends_on_run(g, n)) return false;
  return std::ranges::all_of(n.inputs,
                             [&](ValueId v) { return v == kAbsent || is_constant(g, v); });
}

struct Size {
  int64_t bytes = 0, wide = 0;
};
// Of the outputs; nothing if only an evaluation tells.
std::optional<Size> size_of_outputs(const Graph& g, const Node& n) {
  Size size;
  for (const ValueId v : n.outputs) {
    if (v == kAbsent) continue;
    const auto shape = known_shape(dims_of(g, v));
    if (!shape) return std::nullopt;
    constexpr int64_t kEnough = INT64_MAX / 4;  // of each, so that sums of a few fit
    const auto bytes = [&](int64_t element) {
      return std::min(saturated_bytes(*shape, element), kEnough);
    };
    size.bytes = std::min(size.bytes + bytes(size_of(dtype_of(g, v))), kEnough);
    size.wide = std::min(size.wide + bytes(8), kEnough);
  }
  return size;
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

// The halves that a Cast widens, if that is what the node is.
const Tensor* halves_of(const Graph& g, const Node& n) {
  if (!n.is("Cast") || !has_result(n) || dtype_of(g, n.outputs[0]) != DType::f32) return nullptr;
  const Value& from = g.value(n.inputs[0]);
  return from.is_constant() && is_half(from.type().dtype) ? from.fact.constant.get() : nullptr;
}

Tensor widened(const Tensor& halves) {
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::f32, halves.shape(), &bytes);
  auto* to = reinterpret_cast<float*>(bytes);
  const auto* from = halves.as<uint16_t>();
  const bool brain = halves.dtype() == DType::bf16;
  for (int64_t i = 0; i < halves.count(); ++i) {
    check_guard_at(static_cast<size_t>(i));
    to[i] = brain ? bfloat_to_float(from[i]) : half_to_float(from[i]);
  }
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
      check_guard();
      if (auto patch = sharper_facts(g, n)) return patch;
      if (auto patch = has_constant_inputs(g, n) ? whole(g, n, report) : known(g, n)) return patch;
    }
    return std::nullopt;
  }

 private:
  std::optional<Patch> whole(const Graph& g, const Node& n, PassReport& report) {
    // The limits are about what unfolds: bytes become four times what the file brings, halves
    // twice, and not more.
    if (const Tensor* halves = halves_of(g, n)) {
      Patch patch(g, n.id);
      patch.replace(n.outputs[0],
                    patch.constant(widened(*halves), carried(g, n, 0), halves->dtype()));
      return patch;
    }
    if (auto floats = dequantised(g, n)) {
      Patch patch(g, n.id);
      patch.replace(n.outputs[0], patch.constant(std::move(*floats), carried(g, n, 0)));
      return patch;
    }
    if (const std::string why = too_large(g, n); !why.empty()) {
      report.refuse("fold", g, n, why);
      return std::nullopt;
    }
    try {
      return replaced(g, n, evaluated(g, n));
    } catch (const TimeoutError&) {
      throw;
    } catch (const CancelledError&) {
      throw;
    } catch (const UsageError&) {  // an attribute has a symbol, whose value the run brings
      return std::nullopt;
    } catch (const Error& e) {  // the run will say the same, if it gets here at all
      report.refuse("fold", g, n, e.what());
      return std::nullopt;
    }
  }

  // What unfolds into more than this is better off computed in the run. The evaluation takes eight
  // bytes for each element, which counts for narrow types.
  std::string too_large(const Graph& g, const Node& n) const {
    const Limits& limits = current_limits();
    constexpr int64_t kWide = 4;
    const std::optional<Size> size = size_of_outputs(g, n);
    if (!size) return "";
    if (size->bytes > limits.fold_node_bytes || size->wide / kWide > limits.fold_node_bytes) {
      return cat("the result takes ", size->bytes, " bytes, more than the limit fold_node_bytes, ",
                 limits.fold_node_bytes);
    }
    if (size->bytes > limits.fold_model_bytes - spent_) {
      return cat("the constants of the model would take more than the limit fold_model_bytes, ",
                 limits.fold_model_bytes);
    }
    return "";
  }

  std::optional<Patch> replaced(const Graph& g, const Node& n, const std::vector<Wide>& results) {
    Patch patch(g, n.id);
    for (size_t i = 0; i < results.size(); ++i) {
      if (n.outputs[i] == kAbsent) continue;
      Tensor t = narrow(results[i], dtype_of(g, n.outputs[i]));
      spent_ += t.bytes();
      patch.replace(n.outputs[i], patch.constant(std::move(t), carried(g, n, i)));
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
