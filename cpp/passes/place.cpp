#include "passes/place.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/guard.h"
#include "base/names.h"
#include "base/qparams.h"
#include "ops/quantize.h"
#include "passes/place_facts.h"
#include "passes/tools.h"
#include "quant/weight_grid.h"

namespace planck {
namespace {

constexpr std::string_view kRecipes[] = {"auto", "transformer", "cnn", "all", "dynamic"};

void check_one_of(std::string_view what, const std::string& given,
                  std::span<const std::string_view> known) {
  if (std::ranges::find(known, given) != known.end()) return;
  throw with(UsageError(what, " is '", given, "'; expected one of ", joined(known)),
             {.expected = joined(known), .got = given});
}

void check_options(const PlacementOptions& options) {
  constexpr std::string_view kWeights[] = {"per_channel", "per_tensor"};
  constexpr std::string_view kMethods[] = {"mse", "max"};
  check_one_of("recipe", options.recipe, kRecipes);
  check_one_of("weights", options.weights, kWeights);
  check_one_of("weight_method", options.weight_method, kMethods);
}

std::string quoted(const std::vector<std::string>& names) {
  std::vector<std::string> out;
  for (const std::string& n : names) out.push_back(cat('\'', n, '\''));
  return joined(out);
}

Tensor weight_in_floats(const Graph& g, ValueId v) {
  const Tensor& stored = *g.value(stored_weight(g, v)).fact.constant;
  return stored.dtype() == DType::f32 ? stored : narrow(widen(stored), DType::f32);
}

class Placer {
 public:
  Placer(const Graph& g, const Grids& grids, const PlacementOptions& options)
      : graph_(g), grids_(grids), options_(options), facts_(g) {
    for (const Node& n : g.nodes()) {
      if (is_weighted_op(n)) names_.push_back(facts_.name_of(n));
    }
  }

  Placement run() {
    check_patterns("include", options_.include);
    check_patterns("exclude", options_.exclude);
    out_.recipe = options_.recipe != "auto" ? options_.recipe : chosen_recipe();
    for (const Node& n : graph_.nodes()) {
      check_guard();
      if (is_weighted_op(n)) consider(n);
    }
    check_covered();
    if (options_.bound.empty() && (out_.recipe == "cnn" || out_.recipe == "all")) {
      for (const Node& n : graph_.nodes()) {
        if (n.is("Add")) place_skip(n);
      }
    }
    find_weights();
    return std::move(out_);
  }

 private:
  void check_patterns(std::string_view option, const std::vector<std::string>& patterns) const {
    for (const std::string& p : patterns) {
      const auto hits = [&](const std::string& name) { return matches_pattern(p, name); };
      if (std::ranges::any_of(names_, hits)) continue;
      throw with(UsageError(option, ": no weighted op is named '", p, "'; nearest are ",
                            quoted(nearest_names(p, names_))),
                 {.expected = "a name or a pattern of names", .got = p});
    }
  }

  static bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
    return std::ranges::any_of(patterns,
                               [&](const std::string& p) { return matches_pattern(p, name); });
  }

  // Convolutions over places are what makes a network convolutional; a few at the door of a
  // transformer do not.
  std::string chosen_recipe() const {
    int64_t convolutions = 0, products = 0;
    for (const Node& n : graph_.nodes()) {
      if (n.is("Conv")) ++convolutions;
      const bool product = n.is("MatMul") || n.is("Gemm");
      if (product && facts_.is_fixed(n.inputs[kWeightInput])) ++products;
    }
    return convolutions > products ? "cnn" : "transformer";
  }

  // --- weighted ops -------------------------------------------------------------------------
  void consider(const Node& n) {
    if (std::string why = placed(n); !why.empty()) out_.kept.push_back({n.id, std::move(why)});
  }

  // Takes the op in, or says why not.
  std::string placed(const Node& n) {
    const std::string& name = facts_.name_of(n);
    if (!facts_.is_fixed(n.inputs[kWeightInput])) {
      const bool left = facts_.is_fixed(n.inputs[kDataInput]);
      return left ? "its constant is the first operand" : "both operands are computed in the run";
    }
    if (facts_.is_fixed(n.inputs[kDataInput])) return "it computes a constant";
    const auto path = weight_path(graph_, n);
    if (const auto* why = std::get_if<std::string>(&path)) return *why;
    if (matches_any(options_.exclude, name)) return "excluded by name";
    const auto& weight = std::get<WeightPath>(path);
    const bool bound = is_bound(weight);
    if (!bound && !options_.bound.empty()) return "the scales are not for its layer";
    if (!bound && out_.recipe != "all" && !matches_any(options_.include, name)) {
      if (std::string why = why_float(graph_, facts_, n, options_.depthwise); !why.empty()) {
        return why;
      }
    }
    if (dtype_of(graph_, n.inputs[kDataInput]) != DType::f32) {
      return cat("its input is ", dtype_of(graph_, n.inputs[kDataInput]), ", not f32");
    }
    if (std::string why = too_long(weight); !why.empty()) return why;
    const int32_t own = source_of(graph_, n), source = own < 0 ? n.origin[0] : own;
    if (out_.recipe != "dynamic") {
      if (std::string why = place_input({n.id, kDataInput, source}); !why.empty()) return why;
    } else if (const SourceNode& from = graph_.sources->at(static_cast<size_t>(source));
               from.op_type != "MatMul" && from.op_type != "Gemm") {
      return cat("the recipe dynamic is for MatMul and Gemm, not ", from.op_type);
    }
    place_weight(weight);
    out_.quantised.push_back(n.id);
    return "";
  }

  // Whether a training that simulated int8 has put the weight on a grid.
  bool is_bound(const WeightPath& path) const {
    const auto& bound = options_.bound;
    return bound.contains(graph_.value(path.weight).name) ||
           bound.contains(graph_.value(stored_weight(graph_, path.weight)).name);
  }

  // Sums of u8 times s8 have to fit 32 bits.
  std::string too_long(const WeightPath& weight) const {
    constexpr int64_t kLongest = INT32_MAX / (255 * kWeightSteps);
    const Tensor& w = *graph_.value(stored_weight(graph_, weight.weight)).fact.constant;
    const int64_t channels = w.shape()[static_cast<size_t>(weight.axis)];
    const int64_t terms = channels == 0 ? 0 : w.count() / channels;
    if (terms <= kLongest) return "";
    return cat("a sum of ", terms, " terms may leave 32 bits, ", kLongest, " do not");
  }

  void place_weight(const WeightPath& path) {
    const auto same = [&](const PlacedTensor& w) {
      return w.value == path.weight && w.grid.axis == path.axis;
    };
    auto it = std::ranges::find_if(out_.weights, same);
    if (it == out_.weights.end()) {
      const std::string& own = graph_.value(path.weight).name;
      const std::string& stored = graph_.value(stored_weight(graph_, path.weight)).name;
      PlacedTensor weight{path.weight, own.empty() ? stored : own, {}, {}};
      weight.grid.axis = path.axis;
      it = out_.weights.insert(it, std::move(weight));
    }
    it->uses.push_back(path.first);
  }

  // --- activations --------------------------------------------------------------------------
  // The tensor's own grid, or that of a tensor with the same numbers.
  const QParams* grid_of(ValueId v) const {
    for (const ValueId at : {v, same_numbers(graph_, v)}) {
      const auto it = grids_.find(graph_.value(at).name);
      if (it != grids_.end()) return &it->second;
    }
    return nullptr;
  }

  // Halves that were widened at the door have the name of what was fed.
  const std::string& name_of(ValueId v) const {
    const std::string& own = graph_.value(v).name;
    return own.empty() ? graph_.value(same_numbers(graph_, v)).name : own;
  }

  void check_axis(ValueId v, const QParams& grid) const {
    const auto rank = static_cast<int64_t>(dims_of(graph_, v).size());
    if (grid.axis < rank) return;
    throw with(CalibrationError("the grid of ", label(graph_, v), " lies along axis ", grid.axis,
                                "; the tensor has ", rank, " axes"),
               {.expected = cat("an axis below ", rank), .got = cat(grid.axis)});
  }

  std::string place_input(const PlacedUse& use) {
    const ValueId v = graph_.node(use.node).inputs[static_cast<size_t>(use.input)];
    const QParams* grid = grid_of(v);
    if (grid == nullptr) {
      missing_.push_back(name_of(v));
      return cat("its input ", label(graph_, v), " has no scale");
    }
    check_axis(v, *grid);
    if (grid->axis >= 0 || grid->scale.size() > 1)
      return cat("its input ", label(graph_, v), " has a scale per channel");
    const auto same = [&](const PlacedTensor& a) { return a.value == v; };
    auto it = std::ranges::find_if(out_.activations, same);
    if (it == out_.activations.end()) {
      it = out_.activations.insert(it, {v, name_of(v), *grid, {}});
    }
    it->uses.push_back(use);
    return "";
  }

  // --- sums after convolutions --------------------------------------------------------------
  bool is_quantised(const Node* n) const {
    return n != nullptr && std::ranges::find(out_.quantised, n->id) != out_.quantised.end();
  }

  // The convolution with the longer branch adds the other operand as its residual. Of equal ones
  // it is the second operand's, as the fusion has it.
  int32_t skip_input(const Node& add) const {
    const Node* first = convolution_of(graph_, facts_, add.inputs[0]);
    const Node* second = convolution_of(graph_, facts_, add.inputs[1]);
    const bool a = is_quantised(first), b = is_quantised(second);
    if (a && b) return branch_length(graph_, *first) > branch_length(graph_, *second) ? 1 : 0;
    return a ? 1 : b ? 0 : -1;
  }

  void place_skip(const Node& add) {
    const ValueId x = add.inputs[0], y = add.inputs[1];
    if (x == y || facts_.is_fixed(x) || facts_.is_fixed(y) || source_of(graph_, add) < 0) return;
    if (!same_dims(dims_of(graph_, x), dims_of(graph_, y))) return;
    const int32_t skip = skip_input(add);
    if (skip < 0 || matches_any(options_.exclude, facts_.name_of(add))) return;
    if (std::string why = place_input({add.id, skip, source_of(graph_, add)}); !why.empty()) {
      out_.kept.push_back({add.id, std::move(why)});
    }
  }

  // --- the end ------------------------------------------------------------------------------
  void check_covered() const {
    if (!out_.quantised.empty()) return;
    if (!missing_.empty()) {
      std::vector<std::string> given;
      for (const auto& [name, grid] : grids_) given.push_back(name);
      throw with(
          CalibrationError("the scales cover no input of a product or convolution; of '",
                           missing_.front(), "' the nearest names with a scale are ",
                           given.empty() ? "none" : quoted(nearest_names(missing_.front(), given))),
          {.expected = cat("a scale of ", missing_.front()), .got = cat(given.size(), " scales")});
    }
    std::vector<std::string> reasons;
    for (const KeptFloat& k : out_.kept) {
      if (reasons.size() == 3) break;
      reasons.push_back(cat(facts_.name_of(graph_.node(k.node)), ": ", k.reason));
    }
    throw with(PrecisionError("the model has no product or convolution that int8 could run",
                              reasons.empty() ? "" : "; ", joined(reasons, "; ")),
               {.expected = "a product or convolution with constant weights",
                .got = cat(out_.kept.size(), " that stay float"),
                .hint = "recipe=\"all\" or include= take what stays float by default"});
  }

  // A Cast's result may also have the grid that calibration gives to every tensor of a run, which
  // is none of a weight.
  const QParams* grid_of_weight(const PlacedTensor& w) const {
    const ValueId stored = stored_weight(graph_, w.value);
    if (const auto it = grids_.find(graph_.value(stored).name); it != grids_.end()) {
      return &it->second;
    }
    const auto it = grids_.find(w.name);
    return it != grids_.end() && it->second.scale.size() > 1 ? &it->second : nullptr;
  }

  void find_weights() {
    for (PlacedTensor& w : out_.weights) {
      const Tensor t = weight_in_floats(graph_, w.value);
      const auto values = std::span(t.as<float>(), static_cast<size_t>(t.count()));
      if (const QParams* given = grid_of_weight(w)) {
        w.grid = given_grid(w, *given, t);
        continue;
      }
      const int64_t axis = options_.weights == "per_tensor" ? -1 : w.grid.axis;
      w.grid =
          with_context([&] { return weight_grid(values, t.shape(), axis, options_.weight_method); },
                       "weight '", w.name, "'");
    }
  }

  static QParams given_grid(const PlacedTensor& w, const QParams& given, const Tensor& t) {
    const int64_t channels = t.shape()[static_cast<size_t>(w.grid.axis)];
    QParams grid = given;
    grid.axis = given.scale.size() == 1 ? -1 : w.grid.axis;
    const int64_t axis =
        given.axis < 0 ? given.axis + static_cast<int64_t>(t.shape().size()) : given.axis;
    const bool fits = grid.axis < 0 ||
                      (axis == grid.axis && static_cast<int64_t>(given.scale.size()) == channels);
    const bool symmetric = given.dtype == DType::s8 &&
                           std::ranges::all_of(given.zero_point, [](int32_t z) { return z == 0; });
    if (fits && symmetric) return grid;
    throw with(CalibrationError("the grid of the weight '", w.name, "' does not fit it: ",
                                given.scale.size(), " scales of ", given.dtype, " along axis ",
                                given.axis, " for ", channels, " channels along axis ", w.grid.axis,
                                "; expected one scale or one a channel, s8, ", "zero point 0"),
               {.expected = cat(channels, " scales along axis ", w.grid.axis),
                .got = cat(given.scale.size(), " scales along axis ", given.axis)});
  }

  const Graph& graph_;
  const Grids& grids_;
  const PlacementOptions& options_;
  const PlaceFacts facts_;
  std::vector<std::string> names_;    // of weighted ops
  std::vector<std::string> missing_;  // inputs without a grid
  Placement out_;
};

// --- insertion ------------------------------------------------------------------------------

Tensor zero_point_of(const QParams& grid) {
  std::byte* bytes = nullptr;
  const bool one = grid.axis < 0;
  Tensor out = Tensor::make(
      grid.dtype, one ? Shape{} : Shape{static_cast<int64_t>(grid.zero_point.size())}, &bytes);
  for (size_t i = 0; i < grid.zero_point.size(); ++i) {
    bytes[i] = static_cast<std::byte>(grid.zero_point[i]);
  }
  return out;
}

Tensor scale_of(const QParams& grid) {
  const bool one = grid.axis < 0;
  return Tensor::of(DType::f32, one ? Shape{} : Shape{static_cast<int64_t>(grid.scale.size())},
                    std::span<const float>(grid.scale));
}

// The reader that comes first in the graph; `order` has the place of each node.
NodeId first_reader(const PlacedTensor& t, const std::vector<int64_t>& order) {
  const auto place_of = [&](const PlacedUse& u) { return order[static_cast<size_t>(u.node)]; };
  return std::ranges::min_element(t.uses, {}, place_of)->node;
}

void redirect(Graph& g, const Patch& patch, const PlacedTensor& t,
              const std::vector<ValueId>& inserted) {
  const Origin served = g.node(patch.at()).origin;
  apply(g, patch);
  for (const ValueId v : inserted) g.add_node_origin(g.value(v).producer, served);
  for (const PlacedUse& u : t.uses) {
    g.set_input(u.node, static_cast<size_t>(u.input), inserted.back());
  }
}

// Takes out a weight that nothing reads, with the Cast that makes it; its integers stand for both.
void drop_weight(Graph& g, ValueId weight, ValueId integers) {
  const ValueId stored = stored_weight(g, weight);
  g.add_origin(integers, g.value(stored).origin);
  if (stored != weight) {
    const NodeId cast = g.value(weight).producer;
    g.add_origin(integers, g.node(cast).origin);
    g.erase(cast);
  }
  if (g.uses(stored) == 0) g.forget(stored);
}

}  // namespace

Placement place(const Graph& imported, const Grids& grids, const PlacementOptions& options) {
  check_options(options);
  if (const Node* n = first_quantised_node(imported)) {
    throw with(UsageError("the model is quantised already, by ", origin_text(imported, n->origin),
                          " (", n->op->text(), "); nothing else of it is quantised"),
               {.expected = "a float model",
                .got = n->op->text(),
                .hint = "build it with precision=\"int8\" and no scales"});
  }
  return Placer(imported, grids, options).run();
}

Tensor quantised_weight(const Graph& g, const PlacedTensor& weight) {
  const Tensor t = weight_in_floats(g, weight.value);
  const auto values = std::span(t.as<float>(), static_cast<size_t>(t.count()));
  return Tensor::of(DType::s8, t.shape(),
                    std::span<const int8_t>(on_grid(values, t.shape(), weight.grid)));
}

void apply(Graph& g, const Placement& placement) {
  std::vector<int64_t> order(g.node_capacity(), -1);
  int64_t at = 0;
  for (const Node& n : g.nodes()) order[static_cast<size_t>(n.id)] = at++;
  for (const PlacedTensor& t : placement.activations) {
    Patch patch(g, first_reader(t, order));
    const ValueId scale = patch.constant(scale_of(t.grid));
    const ValueId zero = patch.constant(zero_point_of(t.grid));
    const ValueId q = patch.add(ops::QuantizeLinear{}, {t.value, scale, zero});
    const ValueId back = patch.add(ops::DequantizeLinear{}, {q, scale, zero});
    redirect(g, patch, t, {q, back});
    g.set_name(back, cat(t.name, kDequantizedSuffix));
  }
  for (const PlacedTensor& t : placement.weights) {
    Patch patch(g, first_reader(t, order));
    const ValueId q = patch.constant(quantised_weight(g, t));
    const ValueId scale = patch.constant(scale_of(t.grid));
    const ValueId zero = patch.constant(zero_point_of(t.grid));
    ops::DequantizeLinear dequantize;
    if (t.grid.axis >= 0) dequantize.axis = t.grid.axis;
    redirect(g, patch, t, {patch.add(dequantize, {q, scale, zero})});
    if (g.uses(t.value) == 0) drop_weight(g, t.value, q);
  }
  verify(g);
}

const Node* first_quantised_node(const Graph& g) {
  static constexpr std::string_view kOps[] = {
      "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
      "MatMulInteger",  "QLinearMatMul",    "ConvInteger",
      "QLinearConv"};
  for (const Node& n : g.nodes()) {
    if (std::ranges::any_of(kOps, [&](std::string_view op) { return n.is(op); })) return &n;
  }
  return nullptr;
}

}  // namespace planck
