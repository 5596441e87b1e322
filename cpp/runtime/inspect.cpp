#include "runtime/inspect.h"

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "backends/packing.h"
#include "base/device.h"
#include "base/qparams.h"
#include "ir/archive.h"
#include "ops/evaluate.h"
#include "ops/ops.h"
#include "runtime/replay.h"

namespace planck {
namespace {

// Which step of the plan holds or covers what, by names and ONNX nodes.
class Atlas {
 public:
  explicit Atlas(const Plan& plan) : plan(plan) {
    if (plan.source.graph.empty()) {
      throw with(UsageError("the plan does not carry its source graph, so its tensors cannot be "
                            "compared"),
                 {.hint = "build it with inspectable=True; models with sub-graphs are not carried "
                          "yet"});
    }
    archived.emplace(read_archive(plan.source.graph, builtin_ops()));
    for (const Plan::SourceName& n : plan.nodes) {
      archived->graph.sources->push_back({n.name, n.op_type});
    }
    for (const Node& n : graph().nodes()) {
      const bool known = std::ranges::all_of(n.origin, [&](int32_t o) {
        return o >= 0 && static_cast<size_t>(o) < plan.nodes.size();
      });
      if (!known) throw CorruptError("the source graph names an ONNX node that is not there");
    }
    for (size_t v = 0; v < graph().value_count(); ++v) {
      const Value& value = graph().value(static_cast<ValueId>(v));
      if (!value.name.empty()) by_name.emplace(value.name, value.id);
    }
    find_writers();
    find_steps();
    drop_early();
  }

  const Plan& plan;
  const PlanValue& at(int32_t id) const { return plan.values[static_cast<size_t>(id)]; }
  std::optional<ArchivedGraph> archived;
  const Graph& graph() const { return archived->graph; }
  std::map<std::string, ValueId> by_name;
  std::map<ValueId, int32_t> held;               // value -> the plan value that equals it
  std::vector<std::vector<ValueId>> held_after;  // step -> values whose buffer it finishes
  std::vector<int32_t> writers;                  // buffer -> how many steps write to it
  std::map<NodeId, int32_t> step_of;             // node -> the first step that covers it
  std::vector<std::vector<NodeId>> nodes_of;     // step (one more: none) -> nodes, in order

  // The tensor of the model that the plan value stands for. Where the model itself is in floats,
  // one on a grid stands for the tensor that was quantised.
  std::map<std::string, ValueId>::const_iterator find(const PlanValue& v) const {
    if (v.name.empty()) return by_name.end();
    const auto found = by_name.find(v.name);
    if (found != by_name.end() || v.scale <= 0 || !v.name.ends_with(kDequantizedSuffix)) {
      return found;
    }
    return by_name.find(v.name.substr(0, v.name.size() - kDequantizedSuffix.size()));
  }

  bool is_constant(ValueId v) const {
    return graph().value(v).is_constant() || archived->weights.contains(v);
  }
  Wide constant(ValueId v) const {
    const auto it = archived->weights.find(v);
    if (it == archived->weights.end()) return widen(*graph().value(v).fact.constant);
    if (static_cast<size_t>(it->second) >= plan.source.weights.size()) {
      throw CorruptError("the source graph names weight ", it->second);
    }
    const SourceWeight& weight = plan.source.weights[static_cast<size_t>(it->second)];
    const TensorType declared{weight.dtype, {weight.shape.begin(), weight.shape.end()}};
    if (declared != graph().value(v).type()) {
      throw CorruptError(label(graph(), v), " is ", graph().value(v).type(),
                         " in the source graph, and its weight is ", declared);
    }
    return widen(source_weight(plan, weight));
  }

  TensorFacts facts(ValueId v) const {
    const Value& value = graph().value(v);
    TensorFacts out{value.name, "", "", -1, "", held.contains(v)};
    if (value.producer == kNoNode) return out;
    const Node& n = graph().node(value.producer);
    if (!n.origin.empty()) out.node = plan.nodes[static_cast<size_t>(n.origin[0])].name;
    out.op_type = n.op->text();
    const auto step = finished_.find(v);
    out.step = step != finished_.end() ? step->second : step_of.at(n.id);
    if (out.step >= 0) out.kernel = plan.steps[static_cast<size_t>(out.step)].kernel;
    return out;
  }

 private:
  std::map<ValueId, int32_t> finished_;  // held value -> the step that finishes its buffer

  void find_writers() {
    std::vector<int32_t> last(plan.buffers.size(), -1);
    writers.assign(plan.buffers.size(), 0);
    held_after.resize(plan.steps.size());
    for (size_t s = 0; s < plan.steps.size(); ++s) {
      std::set<int32_t> mine;
      for (const int32_t v : plan.steps[s].outputs) {
        if (v >= 0) mine.insert(plan.values[static_cast<size_t>(v)].buffer);
      }
      for (const int32_t b : mine) {
        last[static_cast<size_t>(b)] = static_cast<int32_t>(s);
        ++writers[static_cast<size_t>(b)];
      }
    }
    for (size_t i = 0; i < plan.values.size(); ++i) {
      const PlanValue& v = plan.values[i];
      const auto named = find(v);
      const int32_t step = last[static_cast<size_t>(v.buffer)];
      if (named == by_name.end() || step < 0) continue;
      const ValueId id = named->second;
      const Value& source = graph().value(id);
      const DType dtype = v.scale > 0 ? DType::f32 : v.dtype;
      const bool stands =
          source.type().dtype == dtype || (is_half(source.type().dtype) && dtype == DType::f32);
      const bool computed = source.producer != kNoNode && stands;
      if (!computed || !held.emplace(id, static_cast<int32_t>(i)).second) continue;
      held_after[static_cast<size_t>(step)].push_back(id);
      finished_[id] = step;
    }
  }

  // A plan may hold a value before what the model makes it of: a slice of an update that it leaves
  // alone. Such a value is evaluated like those that the plan does not hold.
  void drop_early() {
    std::map<ValueId, int32_t> ready;  // the step after which it can be evaluated; none: at once
    for (const Node& n : graph().nodes()) {
      int32_t step = -1;
      for (const ValueId v : n.inputs) {
        if (const auto it = ready.find(v); it != ready.end()) step = std::max(step, it->second);
      }
      for (const ValueId v : n.outputs) {
        if (v == kAbsent) continue;
        const auto finished = finished_.find(v);
        ready[v] = finished == finished_.end() ? step : std::max(step, finished->second);
        if (finished == finished_.end() || finished->second >= step) continue;
        std::erase(held_after[static_cast<size_t>(finished->second)], v);
        finished_.erase(finished);
        held.erase(v);
      }
    }
  }

  // The step after which all inputs of the node are there. Equal computations of shapes become one,
  // so that a step may cover nodes that the model has behind later ones.
  int32_t ready(const Node& n) const {
    int32_t step = -1;
    for (const ValueId v : n.inputs) {
      if (v == kAbsent) continue;
      if (const auto held = finished_.find(v); held != finished_.end()) {
        step = std::max(step, held->second);
      } else if (const auto it = step_of.find(graph().value(v).producer); it != step_of.end()) {
        step = std::max(step, it->second);
      }
    }
    return step;
  }

  void find_steps() {
    std::map<int32_t, int32_t> first;  // ONNX node -> step
    for (size_t s = 0; s < plan.steps.size(); ++s) {
      for (const int32_t n : plan.steps[s].nodes) first.emplace(n, static_cast<int32_t>(s));
    }
    nodes_of.resize(plan.steps.size() + 1);
    for (const Node& n : graph().nodes()) {
      int32_t step = -1;
      for (const int32_t o : n.origin) {
        if (const auto it = first.find(o); it != first.end()) step = std::max(step, it->second);
      }
      if (step >= 0) step = std::max(step, ready(n));
      step_of[n.id] = step;
      nodes_of[step < 0 ? plan.steps.size() : static_cast<size_t>(step)].push_back(n.id);
    }
  }
};

// What integers of the plan stand for, and back; other tensors as they are. A half of the model
// that the plan keeps in f32 is rounded.
Tensor real_numbers(const PlanValue& v, const Tensor& stored, DType model) {
  if (v.scale <= 0) return stored.dtype() == model ? stored : narrow(widen(stored), model);
  Wide out = Wide(DType::f32, stored.shape());
  const auto* q = reinterpret_cast<const uint8_t*>(stored.data());
  for (size_t i = 0; i < out.real.size(); ++i) {
    out.real[i] = static_cast<double>(v.scale) * (int{q[i]} - v.zero);
  }
  return narrow(out, model);
}
Tensor as_stored(const PlanValue& v, const Wide& real) {
  if (v.scale <= 0) return narrow(real, v.dtype);
  std::byte* bytes = nullptr;
  Tensor out = Tensor::make(DType::u8, real.shape, &bytes);
  for (size_t i = 0; i < real.real.size(); ++i) {
    const double q = std::nearbyint(real.real[i] / static_cast<double>(v.scale)) + v.zero;
    bytes[i] = static_cast<std::byte>(std::isnan(q) ? 0 : std::clamp(q, 0.0, 255.0));
  }
  return out;
}

// Walks plan and model together. `R` are the reference's tensors, `A` the plan's.
class Walk {
 public:
  Walk(const Atlas& atlas, std::vector<Tensor> inputs, const InspectOptions& options)
      : atlas_(atlas),
        g_(atlas.graph()),
        options_(options),
        replay_(atlas.plan, inputs, options.threads > 0 ? options.threads : this_device().cores,
                options.denormals),
        bindings_(replay_.bindings()) {
    if (g_.inputs.size() != inputs.size()) throw CorruptError("the source graph has other inputs");
    for (size_t i = 0; i < inputs.size(); ++i) {
      expect_declared(g_.inputs[i], inputs[i].dtype(), inputs[i].shape());
      actual_[g_.inputs[i]] = inputs[i];
    }
    for (const Node& n : g_.nodes()) {
      for (const ValueId v : std::set(n.inputs.begin(), n.inputs.end())) {
        if (v != kAbsent) ++uses_[v];
      }
    }
  }
  virtual ~Walk() = default;

  void run() {
    start();
    const size_t steps = atlas_.plan.steps.size();
    for (size_t s = 0; s < steps; ++s) {
      if (options_.progress &&
          !options_.progress(static_cast<double>(s) / static_cast<double>(steps))) {
        throw CancelledError("the comparison was cancelled at step ", s);
      }
      with_context([&] { advance(s); }, "step ", s, " (", atlas_.plan.steps[s].op, ")");
    }
    for (const NodeId n : atlas_.nodes_of[steps]) evaluate_node(n);
  }

 protected:
  virtual void start() {}
  virtual void before(size_t) {}         // the step was not run yet
  virtual bool needs(NodeId) const = 0;  // whether the node has to be evaluated for A
  virtual void node_done(const Node&, std::map<ValueId, Wide>&) {}
  virtual void held(ValueId) {}  // A of a value that the plan holds is there

  const Atlas& atlas_;
  const Graph& g_;
  const InspectOptions& options_;
  Replay replay_;
  Bindings bindings_;
  std::map<ValueId, Tensor> actual_;
  std::map<ValueId, int64_t> uses_;

  // Evaluates the producers that `v` still needs, without recursion.
  void require(ValueId v) {
    std::vector<NodeId> stack;
    const auto push = [&](ValueId id) {
      const NodeId n = id == kAbsent ? kNoNode : g_.value(id).producer;
      if (n != kNoNode && !done_.contains(n)) stack.push_back(n);
    };
    push(v);
    while (!stack.empty()) {
      const NodeId top = stack.back();
      const size_t before = stack.size();
      if (!done_.contains(top)) {
        for (const ValueId id : g_.node(top).inputs) push(id);
      }
      if (stack.size() > before) continue;
      stack.pop_back();
      if (!done_.contains(top)) evaluate_now(g_.node(top));
    }
  }

  // The graph came with the plan, so that nothing in it is true before it was checked.
  std::vector<Wide> evaluate_on(const Node& n, const std::vector<const Wide*>& in) {
    std::vector<Wide> out(n.outputs.size());
    std::vector<std::optional<DType>> declared(out.size());
    for (size_t i = 0; i < out.size(); ++i) {
      if (n.outputs[i] == kAbsent) continue;
      declared[i] = g_.value(n.outputs[i]).type().dtype;
      out[i].dtype = *declared[i];
    }
    try {
      check_inputs(n, in, declared);
      Evaluation call{in, out, &bindings_};
      evaluate(*n.op, n.attrs.get(), call);
    } catch (const GraphError& e) {
      throw with(RunError(e.what()), e.fields);
    }
    for (size_t i = 0; i < out.size(); ++i) {
      if (declared[i]) expect_declared(n.outputs[i], out[i].dtype, out[i].shape);
    }
    return out;
  }

  auto there(auto& tensors, ValueId v) const {
    const auto it = tensors.find(v);
    if (it == tensors.end()) {
      throw CorruptError(label(g_, v), " is read before a step of the plan gives it");
    }
    return it;
  }

  // Constants of a node, widened once for both evaluations.
  std::map<ValueId, Wide> constants_of(const Node& n) const {
    std::map<ValueId, Wide> out;
    for (const ValueId v : n.inputs) {
      if (v != kAbsent && atlas_.is_constant(v) && !out.contains(v)) out[v] = atlas_.constant(v);
    }
    return out;
  }

  void release(ValueId v) {
    const auto it = uses_.find(v);
    if (it != uses_.end() && it->second > 0) return;
    actual_.erase(v);
    forget(v);
  }
  virtual void forget(ValueId) {}

 private:
  void advance(size_t s) {
    before(s);
    replay_.run_step(s);
    for (const ValueId v : atlas_.held_after[s]) {
      const int32_t id = atlas_.held.at(v);
      const Tensor& a = actual_[v] =
          real_numbers(atlas_.at(id), replay_.value(id), g_.value(v).type().dtype);
      expect_declared(v, a.dtype(), a.shape());
    }
    for (const ValueId v : atlas_.held_after[s]) held(v);
    for (const NodeId n : atlas_.nodes_of[s]) evaluate_node(n);
    for (const ValueId v : atlas_.held_after[s]) release(v);
  }

  static void check_inputs(const Node& n, const std::vector<const Wide*>& in,
                           std::span<const std::optional<DType>> declared) {
    std::vector<Fact> facts(in.size());
    std::vector<const Fact*> given(in.size(), nullptr);
    for (size_t i = 0; i < in.size(); ++i) {
      if (in[i] == nullptr) continue;
      facts[i] = fact_of(*in[i]);
      given[i] = &facts[i];
    }
    check_types(*n.op, n.attrs.get(), given, declared);
  }

  // RunError unless the value has the type that the source graph gives it, as far as the symbols
  // of the inputs say it.
  void expect_declared(ValueId id, DType dtype, const Shape& shape) const {
    const TensorType& type = g_.value(id).type();
    bool fits = dtype == type.dtype && shape.size() == type.dims.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) {
      const bool known = std::ranges::all_of(
          type.dims[i].symbols(), [&](const std::string& s) { return bindings_.contains(s); });
      fits = !known || type.dims[i].eval(bindings_) == shape[i];
    }
    if (fits) return;
    throw with(RunError(label(g_, id), " is ", dtype, shape_text(shape), " in this run, the model ",
                        "of the plan says ", type),
               {.expected = cat(type), .got = cat(dtype, shape_text(shape))});
  }

  void evaluate_node(NodeId n) {
    for (const ValueId v : g_.node(n).outputs) {
      if (v != kAbsent) require(v);
    }
  }

  void evaluate_now(const Node& n) {
    done_.insert(n.id);
    with_context(
        [&] {
          std::map<ValueId, Wide> constants = constants_of(n);
          if (needs(n.id)) interior(n, constants);
          node_done(n, constants);
        },
        "node ", origin_text(g_, n.origin), " (", n.op->text(), ")");
    for (const ValueId v : std::set(n.inputs.begin(), n.inputs.end())) {
      if (v == kAbsent) continue;
      --uses_[v];
      release(v);
    }
    for (const ValueId v : n.outputs) {
      if (v == kAbsent) continue;
      const auto a = actual_.find(v);
      if (a != actual_.end()) evaluated_ += a->second.bytes();
      release(v);
    }
    // Freed blocks of some megabytes stay in the heap otherwise, hundreds of megabytes in all.
    constexpr int64_t kTrim = 8 << 20;
    if (std::exchange(evaluated_, evaluated_ > kTrim ? 0 : evaluated_) > kTrim) malloc_trim(0);
  }

  // What the plan does not hold, from what it holds, rounded to its storage type.
  void interior(const Node& n, std::map<ValueId, Wide>& constants) {
    const bool all_held = std::ranges::all_of(
        n.outputs, [&](ValueId v) { return v == kAbsent || atlas_.held.contains(v); });
    if (all_held) return;
    const FloatState state(options_.denormals);
    std::map<ValueId, Wide> wide;
    std::vector<const Wide*> in;
    for (const ValueId v : n.inputs) {
      if (v == kAbsent) {
        in.push_back(nullptr);
      } else if (const auto c = constants.find(v); c != constants.end()) {
        in.push_back(&c->second);
      } else if (const auto w = wide.find(v); w != wide.end()) {
        in.push_back(&w->second);
      } else {
        const auto a = there(actual_, v);
        in.push_back(&(wide[v] = widen(a->second)));
        if (uses_[v] == 1) actual_.erase(a);  // this node is its last reader
      }
    }
    std::vector<Wide> out = evaluate_on(n, in);
    wide.clear();
    for (size_t i = 0; i < out.size(); ++i) {
      const ValueId v = n.outputs[i];
      if (v != kAbsent && !atlas_.held.contains(v)) actual_[v] = narrow(out[i]);
      out[i] = {};
    }
  }

  std::set<NodeId> done_;
  int64_t evaluated_ = 0;  // bytes since the heap was trimmed
};

// Ops that add up numbers of both signs: their result may be nearly nothing beside what they read,
// so their error is held against the scale of the input.
bool cancels(const Node& n) { return n.is("ReduceMean") || n.is("ReduceSum"); }

double sum_of_squares(const Wide& w) {
  double sum = 0;
  for (const double x : w.real) sum += std::isfinite(x) ? x * x : 0;
  return sum;
}

class Comparison : public Walk {
 public:
  Comparison(const Atlas& atlas, std::vector<Tensor> inputs, const ReferenceTensors* external,
             const InspectOptions& options)
      : Walk(atlas, std::move(inputs), options), external_(external) {}

  std::vector<TensorRow> rows() {
    std::ranges::stable_sort(order_);
    std::vector<TensorRow> out;
    for (const auto& [position, v] : order_) out.push_back(std::move(rows_.at(v)));
    return out;
  }

 protected:
  void start() override {
    for (const ValueId v : g_.inputs) {
      if (external_ == nullptr) reference_[v] = widen(actual_.at(v));
    }
    int64_t position = 0;
    for (const Node& n : g_.nodes()) position_[n.id] = position++;
  }

  bool needs(NodeId) const override { return true; }

  // The step alone, before its own run: its inputs are evaluated by now or can be.
  void before(size_t s) override {
    alone_.clear();
    if (!options_.isolated) return;
    const Step& step = atlas_.plan.steps[s];
    std::vector<Tensor> values(step.inputs.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const int32_t id = step.inputs[i];
      if (id < 0) continue;
      const PlanValue& v = atlas_.plan.values[static_cast<size_t>(id)];
      const BufferKind kind = atlas_.plan.buffers[static_cast<size_t>(v.buffer)].kind;
      if (kind == BufferKind::constant || kind == BufferKind::input) continue;
      if (!reference_input(v, values[i])) return;
    }
    const Replay::Alone alone(replay_, s, values);
    for (const ValueId v : atlas_.held_after[s]) {
      const int32_t id = atlas_.held.at(v);
      const int32_t buffer = atlas_.plan.values[static_cast<size_t>(id)].buffer;
      if (atlas_.writers[static_cast<size_t>(buffer)] == 1) {
        alone_[v] = real_numbers(atlas_.at(id), alone.read(id), g_.value(v).type().dtype);
      }
    }
  }

  void node_done(const Node& n, std::map<ValueId, Wide>& constants) override {
    if (external_ == nullptr) evaluate_reference(n, constants);
    if (cancels(n)) note_scale(n);
    for (const ValueId v : n.outputs) {
      if (v != kAbsent) compare_now(v);
    }
  }

  void held(ValueId v) override {
    if (external_ == nullptr) require(v);  // views of a buffer belong to later steps' nodes
    compare_now(v);
  }

  void forget(ValueId v) override {
    if (g_.value(v).producer == kNoNode || rows_.contains(v)) reference_.erase(v);
  }

 private:
  bool reference_input(const PlanValue& v, Tensor& tensor) {
    const auto it = atlas_.find(v);
    if (it == atlas_.by_name.end()) return false;
    if (external_ == nullptr) require(it->second);
    Wide wide;
    if (!find(it->second, wide)) return false;
    tensor = as_stored(v, wide);
    return true;
  }

  // A copy of R, from our own evaluation or from outside.
  bool find(ValueId v, Wide& out) {
    if (external_ != nullptr) return (*external_)(g_.value(v).name, out);
    const auto it = reference_.find(v);
    if (it == reference_.end()) return false;
    out = it->second;
    return true;
  }

  void evaluate_reference(const Node& n, const std::map<ValueId, Wide>& constants) {
    std::vector<const Wide*> in;
    for (const ValueId v : n.inputs) {
      if (v == kAbsent) {
        in.push_back(nullptr);
        continue;
      }
      const auto c = constants.find(v);
      in.push_back(c != constants.end() ? &c->second : &there(reference_, v)->second);
    }
    std::vector<Wide> out = evaluate_on(n, in);
    for (size_t i = 0; i < out.size(); ++i) {
      if (n.outputs[i] != kAbsent) reference_[n.outputs[i]] = std::move(out[i]);
    }
  }

  void note_scale(const Node& n) {
    Wide in;
    if (!find(n.inputs[0], in) || in.count() == 0 || !in.floating()) return;
    const double mean = sum_of_squares(in) / static_cast<double>(in.count());
    for (const ValueId v : n.outputs) {
      if (v != kAbsent) scale_[v] = mean;
    }
  }

  // Once R and A are both there.
  void compare_now(ValueId v) {
    const auto a = actual_.find(v);
    if (a == actual_.end() || rows_.contains(v) || g_.value(v).name.empty()) return;
    Wide fetched;
    const Wide* r = &fetched;
    if (external_ == nullptr) {
      const auto it = reference_.find(v);
      if (it == reference_.end()) return;
      r = &it->second;
    } else if (!(*external_)(g_.value(v).name, fetched)) {
      return;
    }
    TensorRow row{atlas_.facts(v), a->second.dtype(), a->second.shape(), {}, false, {}, 0};
    with_context([&] { row.cumulative = compare(*r, a->second); }, "tensor '", row.facts.name, "'");
    if (const auto it = alone_.find(v); it != alone_.end()) {
      row.isolated = compare(*r, it->second);
      row.isolated_known = true;
      alone_.erase(it);
    }
    if (const auto it = scale_.find(v); it != scale_.end()) {
      row.scale2 = it->second * static_cast<double>(row.cumulative.count);
    }
    order_.emplace_back(position_[g_.value(v).producer], v);
    rows_.emplace(v, std::move(row));
  }

  const ReferenceTensors* external_;
  std::map<ValueId, Wide> reference_;
  std::map<ValueId, Tensor> alone_;
  std::map<ValueId, double> scale_;
  std::map<ValueId, TensorRow> rows_;
  std::vector<std::pair<int64_t, ValueId>> order_;
  std::map<NodeId, int64_t> position_;
};

class Tap : public Walk {
 public:
  Tap(const Atlas& atlas, std::vector<Tensor> inputs,
      const std::function<bool(const std::string&)>& wanted, const TapSink& sink,
      const InspectOptions& options)
      : Walk(atlas, std::move(inputs), options), wanted_(wanted), sink_(sink) {
    for (const Node& n : g_.nodes()) {
      for (const ValueId v : n.outputs) {
        if (v != kAbsent && wants(v)) need(v);
      }
    }
  }

 protected:
  bool needs(NodeId n) const override { return needed_.contains(n); }
  void node_done(const Node& n, std::map<ValueId, Wide>&) override {
    for (const ValueId v : n.outputs) {
      if (v != kAbsent && !atlas_.held.contains(v)) give(v);
    }
  }
  void held(ValueId v) override { give(v); }

 private:
  bool wants(ValueId v) const {
    const std::string& name = g_.value(v).name;
    return !name.empty() && (!wanted_ || wanted_(name));
  }
  // The nodes between the value and the nearest tensors that the plan holds.
  void need(ValueId v) {
    std::vector<ValueId> stack = {v};
    while (!stack.empty()) {
      const ValueId top = stack.back();
      stack.pop_back();
      const NodeId n = g_.value(top).producer;
      if (n == kNoNode || atlas_.held.contains(top) || !needed_.insert(n).second) continue;
      for (const ValueId i : g_.node(n).inputs) {
        if (i != kAbsent) stack.push_back(i);
      }
    }
  }
  void give(ValueId v) {
    const auto a = actual_.find(v);
    if (a != actual_.end() && wants(v)) sink_(atlas_.facts(v), a->second);
  }

  const std::function<bool(const std::string&)>& wanted_;
  const TapSink& sink_;
  std::set<NodeId> needed_;
};

}  // namespace

std::vector<TensorRow> compare_tensors(const Plan& plan, std::vector<Tensor> inputs,
                                       const ReferenceTensors* reference,
                                       const InspectOptions& options) {
  const FloatState state;
  const Atlas atlas(plan);
  Comparison walk(atlas, std::move(inputs), reference, options);
  walk.run();
  return walk.rows();
}

void tap_tensors(const Plan& plan, std::vector<Tensor> inputs,
                 const std::function<bool(const std::string&)>& wanted, const TapSink& sink,
                 const InspectOptions& options) {
  const FloatState state;
  const Atlas atlas(plan);
  Tap(atlas, std::move(inputs), wanted, sink, options).run();
}

std::vector<TensorFacts> tensor_facts(const Plan& plan) {
  const Atlas atlas(plan);
  std::vector<TensorFacts> out;
  for (const Node& n : atlas.graph().nodes()) {
    for (const ValueId v : n.outputs) {
      if (v != kAbsent && !atlas.graph().value(v).name.empty()) out.push_back(atlas.facts(v));
    }
  }
  return out;
}

}  // namespace planck
