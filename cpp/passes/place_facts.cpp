#include "passes/place_facts.h"

#include <algorithm>
#include <set>

#include "ops/conv.h"
#include "ops/matmul.h"
#include "passes/tools.h"

namespace planck {
namespace {

bool any_of_ops(const Node& n, std::initializer_list<std::string_view> names) {
  return std::ranges::any_of(names, [&](std::string_view name) { return n.is(name); });
}

// Another order or another shape of the same numbers.
bool keeps_numbers(const Node& n) {
  return any_of_ops(
      n, {"Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"});
}

std::optional<Shape> known_extents(const Graph& g, ValueId v) {
  Shape out;
  for (const Dim& d : dims_of(g, v)) {
    if (!d.is_constant()) return std::nullopt;
    out.push_back(d.constant());
  }
  return out;
}

// The axis of `before` with as many elements above it as the axis of `after`, and its extent.
std::optional<int64_t> axis_before(const Shape& before, const Shape& after, int64_t axis) {
  int64_t above = 1;
  for (int64_t d = 0; d < axis; ++d) above *= after[static_cast<size_t>(d)];
  int64_t product = 1;
  for (size_t d = 0; d < before.size(); ++d) {
    if (product == above && before[d] == after[static_cast<size_t>(axis)]) {
      return static_cast<int64_t>(d);
    }
    product *= before[d];
  }
  return std::nullopt;
}

// Where the axis of the node's output lies in its input.
std::optional<int64_t> axis_above(const Graph& g, const Node& n, int64_t axis) {
  if (n.is("Transpose")) return perm_of(g, n)[static_cast<size_t>(axis)];
  const auto before = known_extents(g, n.inputs[0]), after = known_extents(g, n.outputs[0]);
  if (!before || !after) return std::nullopt;
  return axis_before(*before, *after, axis);
}

// The channels of the result along an axis of the weight, or why there is no such axis.
std::variant<int64_t, std::string> channel_axis(const Graph& g, const Node& n) {
  const size_t rank = dims_of(g, n.inputs[kWeightInput]).size();
  if (n.is("Conv")) return int64_t{0};
  if (n.is("ConvTranspose")) {
    const auto extents = known_extents(g, n.inputs[kWeightInput]);
    if (!extents) return std::string("its weight's shape is known in the run alone");
    std::string why = ops::why_no_phases(n.as<ops::ConvTranspose>(), *extents);
    if (!why.empty()) return "a transposed convolution: " + why;
    return int64_t{1};
  }
  if (rank != 2) return cat("its weight has ", rank, " axes, not 2");
  if (n.is("MatMul")) return int64_t{1};
  const auto& gemm = n.as<ops::Gemm>();
  if (gemm.transA != 0) return std::string("its first operand is transposed");
  return int64_t{gemm.transB != 0 ? 0 : 1};
}

bool is_one(const Dim& d) { return d == Dim(1); }

bool widens(const Graph& g, const Node& n) {
  return n.is("Cast") && is_half(dtype_of(g, n.inputs[0])) &&
         dtype_of(g, n.outputs[0]) == DType::f32;
}

bool has_one_row(const Graph& g, const Node& n) {
  const std::vector<Dim>& dims = dims_of(g, n.inputs[kDataInput]);
  return std::all_of(dims.begin(), dims.end() - (dims.empty() ? 0 : 1), is_one);
}

std::string why_float_product(const Graph& g, const Node& n) {
  if (is_one(dims_of(g, n.outputs[0]).empty() ? Dim(1) : dims_of(g, n.outputs[0]).back())) {
    return "a product with one column has the shape of a vector's";
  }
  return has_one_row(g, n) ? "a product with one row has the shape of a vector's" : "";
}

// Narrow ones fill no vector of bytes, unless they are of whole eights.
bool is_narrow(int64_t channels) { return channels < 16 && channels % 8 != 0; }

// Whether the sums of a convolution are so long that its taps fill vectors, however few channels
// there are, and that roundings of raw input even out: 7 x 7 over colours.
bool has_long_sums(const Graph& g, const Node& n) {
  constexpr int64_t kLong = 64;
  if (!n.is("Conv")) return false;
  const std::vector<Dim>& w = dims_of(g, n.inputs[kWeightInput]);
  int64_t terms = 1;
  for (size_t i = 1; i < w.size() && terms < kLong; ++i) terms *= w[i].known().value_or(0);
  return terms >= kLong;
}

std::string why_float_convolution(const Graph& g, const Node& n, bool depthwise) {
  const std::vector<Dim>&w = dims_of(g, n.inputs[kWeightInput]), &y = dims_of(g, n.outputs[0]);
  const bool transposed = n.is("ConvTranspose");  // w [C,M,..], one group
  const int64_t group = transposed ? 1 : n.as<ops::Conv>().group;
  const int64_t out = w[transposed ? 1 : 0].known().value_or(0) / group;
  const int64_t in = w[transposed ? 0 : 1].known().value_or(0);
  if (group > 1 && in == 1) return depthwise ? "" : "a depthwise convolution";
  if ((is_narrow(in) && !has_long_sums(g, n)) || is_narrow(out)) {
    return cat(in, " channels become ", out, group > 1 ? " in each group" : "",
               "; fewer than 16 and no multiple of 8");
  }
  if (y.size() > 2 && std::all_of(y.begin() + 2, y.end(), is_one)) {
    return "a convolution with one place has the shape of a product with a vector";
  }
  return "";
}

// Whether all that is made of the value goes to the outputs of the graph, by ops with constants
// alone: logits, scores and boxes.
class HeadWalk {
 public:
  HeadWalk(const Graph& g, const PlaceFacts& facts) : graph_(g), facts_(facts) {}

  bool is_head(ValueId v) { return ends_in_outputs(v) && reached_; }

 private:
  bool ends_in_outputs(ValueId v) {
    if (v == kAbsent || !seen_.insert(v).second) return true;
    reached_ = reached_ || graph_.is_output(v);
    return std::ranges::all_of(graph_.value(v).readers, [&](NodeId id) {
      const Node& n = graph_.node(id);
      if (any_of_ops(n, {"Shape", "Size"})) return true;
      return passes(n, v) &&
             std::ranges::all_of(n.outputs, [&](ValueId o) { return ends_in_outputs(o); });
    });
  }

  bool passes(const Node& n, ValueId v) const {
    if (is_weighted_op(n) || !n.subgraphs.empty()) return false;
    if (n.is("Concat")) return true;
    return std::ranges::all_of(
        n.inputs, [&](ValueId i) { return i == v || i == kAbsent || facts_.is_fixed(i); });
  }

  const Graph& graph_;
  const PlaceFacts& facts_;
  std::set<ValueId> seen_;
  bool reached_ = false;
};

}  // namespace

bool is_weighted_op(const Node& n) {
  return any_of_ops(n, {"MatMul", "Gemm", "Conv", "ConvTranspose"});
}

PlaceFacts::PlaceFacts(const Graph& g)
    : graph_(g), fixed_(g.value_count(), false), behind_(g.value_count(), false) {
  for (size_t i = 0; i < g.value_count(); ++i) {
    fixed_[i] = g.value(static_cast<ValueId>(i)).is_constant();
  }
  for (const Node& n : g.nodes()) {
    const auto fixed = [&](ValueId v) { return v == kAbsent || is_fixed(v); };
    const bool all_fixed =
        n.subgraphs.empty() && !n.inputs.empty() && std::ranges::all_of(n.inputs, fixed);
    const bool behind = is_weighted_op(n) || std::ranges::any_of(n.inputs, [&](ValueId v) {
                          return v != kAbsent && behind_weights(v);
                        });
    for (const ValueId v : n.outputs) {
      if (v == kAbsent) continue;
      fixed_[static_cast<size_t>(v)] = all_fixed;
      behind_[static_cast<size_t>(v)] = behind;
    }
  }
}

bool PlaceFacts::is_fixed(ValueId v) const { return fixed_[static_cast<size_t>(v)]; }
bool PlaceFacts::behind_weights(ValueId v) const { return behind_[static_cast<size_t>(v)]; }

const std::string& PlaceFacts::name_of(const Node& n) const {
  static const std::string none;
  if (n.origin.empty()) return none;
  const int32_t source = source_of(graph_, n);
  return graph_.sources->at(static_cast<size_t>(source < 0 ? n.origin.back() : source)).name;
}

ValueId stored_weight(const Graph& g, ValueId v) {
  if (g.value(v).is_constant()) return v;
  const Node* n = g.producer(v);
  if (n == nullptr || !n->is("Cast") || dtype_of(g, v) != DType::f32) return kAbsent;
  const ValueId stored = n->inputs[0];
  return is_half(dtype_of(g, stored)) && g.value(stored).is_constant() ? stored : kAbsent;
}

std::variant<WeightPath, std::string> weight_path(const Graph& g, const Node& n) {
  const auto axis = channel_axis(g, n);
  if (const auto* why = std::get_if<std::string>(&axis)) return *why;
  WeightPath path{
      n.inputs[kWeightInput], {n.id, kWeightInput, source_of(g, n)}, std::get<int64_t>(axis)};
  while (stored_weight(g, path.weight) == kAbsent) {
    const Node* view = g.producer(path.weight);
    if (view == nullptr || !keeps_numbers(*view)) {
      return cat(label(g, path.weight), ", its weight, is computed in the run");
    }
    if (g.uses(path.weight) != 1) {
      return cat("its weight ", label(g, path.weight), " is also read elsewhere");
    }
    const auto above = axis_above(g, *view, path.axis);
    if (!above) return cat("its weight's channels are no axis of ", label(g, view->inputs[0]));
    path = {view->inputs[0], {view->id, 0, source_of(g, *view)}, *above};
  }
  if (dtype_of(g, path.weight) != DType::f32) {
    return cat("its weight is ", dtype_of(g, path.weight), ", not f32");
  }
  if (path.first.source < 0) return std::string("it stands inside a function of the model");
  return path;
}

std::string why_float(const Graph& g, const PlaceFacts& facts, const Node& n, bool depthwise) {
  const bool convolution = n.is("Conv") || n.is("ConvTranspose");
  if (std::string why =
          convolution ? why_float_convolution(g, n, depthwise) : why_float_product(g, n);
      !why.empty()) {
    return why;
  }
  if (convolution && !facts.behind_weights(n.inputs[kDataInput]) && !has_long_sums(g, n)) {
    return "the first convolution";
  }
  if (HeadWalk(g, facts).is_head(n.outputs[0])) return "its result is an output: logits or a head";
  return "";
}

int32_t source_of(const Graph& g, const Node& n) {
  if (n.origin.size() == 1) return n.origin[0];
  int32_t found = -1;  // beside Casts that went into it
  for (const int32_t source : n.origin) {
    if (g.sources->at(static_cast<size_t>(source)).op_type != n.op->name) continue;
    if (found >= 0) return -1;
    found = source;
  }
  return found;
}

ValueId same_numbers(const Graph& g, ValueId v) {
  const Node* n = g.producer(v);
  while (n != nullptr && (keeps_numbers(*n) || widens(g, *n)) && n->outputs[0] == v) {
    v = n->inputs[0];
    n = g.producer(v);
  }
  return v;
}

const Node* convolution_of(const Graph& g, const PlaceFacts& facts, ValueId v) {
  for (;;) {
    const Node* n = g.producer(v);
    if (n == nullptr || g.uses(v) != 1) return nullptr;
    if (n->is("Conv")) return n;
    if (n->is("Identity")) {
      v = n->inputs[0];
      continue;
    }
    if (!any_of_ops(*n, {"Add", "Sub", "Mul", "Div"})) return nullptr;
    const bool left = facts.is_fixed(n->inputs[1]), right = facts.is_fixed(n->inputs[0]);
    if (left == right || (right && n->is("Div"))) return nullptr;
    v = n->inputs[left ? 0 : 1];
  }
}

int branch_length(const Graph& g, const Node& conv) {
  int length = 1;
  for (ValueId v = conv.inputs[kDataInput]; g.uses(v) == 1;) {
    const Node* n = g.producer(v);
    if (n == nullptr || n->inputs.empty() || n->inputs[0] == kAbsent) break;
    length += is_weighted_op(*n) ? 1 : 0;
    v = n->inputs[0];
  }
  return length;
}

}  // namespace planck
