// RNN, GRU and LSTM: a product of all steps' inputs, then a step that walks the time.
#include <algorithm>
#include <cmath>

#include "backends/packing.h"
#include "builder/lowering.h"
#include "builder/select.h"
#include "ops/recurrent.h"
#include "ops/transpose.h"

namespace planck {
namespace {

// What the ops have in common.
struct Layer {
  RecurrentKind kind = RecurrentKind::lstm;
  bool reverse = false, batch_first = false;
  int64_t sides = 1;
  std::string refusal;
};

bool same_name(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

// Whether a list of activations says the same for each direction as `want`.
bool activates(const std::vector<std::string>& names, std::vector<std::string_view> want) {
  if (names.size() % want.size() != 0) return false;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!same_name(names[i], want[i % want.size()])) return false;
  }
  return true;
}

template <class Op>
Layer layer_of(const Op& op, RecurrentKind kind, const std::vector<std::string_view>& usual) {
  Layer layer;
  layer.kind = kind;
  layer.reverse = op.direction == "reverse";
  layer.sides = op.direction == "bidirectional" ? 2 : 1;
  layer.batch_first = op.layout != 0;
  if (op.clip > 0) layer.refusal = "it clips its sums";
  if (!activates(op.activations, usual)) layer.refusal = "its activations are not the usual ones";
  return layer;
}

Layer layer_of(const Node& n) {
  if (n.is("GRU")) {
    const auto& op = n.as<ops::GRU>();
    const bool linear = op.linear_before_reset != 0;
    return layer_of(op, linear ? RecurrentKind::gru_linear : RecurrentKind::gru,
                    {"Sigmoid", "Tanh"});
  }
  if (n.is("RNN")) {
    const auto& op = n.as<ops::RNN>();
    const bool relu = !op.activations.empty() && activates(op.activations, {"Relu"});
    if (relu) return layer_of(op, RecurrentKind::rnn_relu, {"Relu"});
    return layer_of(op, RecurrentKind::rnn_tanh, {"Tanh"});
  }
  const auto& op = n.as<ops::LSTM>();
  Layer layer = layer_of(op, RecurrentKind::lstm, {"Sigmoid", "Tanh", "Tanh"});
  if (op.input_forget != 0) layer.refusal = "its input and forget gates are one";
  return layer;
}

const Tensor* constant_of(const Lowering& l, const Node& n, size_t i) {
  return n.input(i) == kAbsent ? nullptr : l.graph.value(n.input(i)).fact.constant.get();
}

constexpr size_t kX = 0, kW = 1, kR = 2, kBias = 3, kLengths = 4, kH = 5, kC = 6, kPeepholes = 7;

std::string why_no_kernel(const Lowering& l, const Node& n, const Layer& layer) {
  if (!layer.refusal.empty()) return layer.refusal;
  for (size_t i = 0; i < n.inputs.size(); ++i) {
    if (n.inputs[i] == kAbsent) continue;
    const DType dtype = l.graph.value(n.inputs[i]).type().dtype;
    if (dtype != (i == kLengths ? DType::s32 : DType::f32)) {
      return cat("no kernel has an operand of ", dtype);
    }
  }
  for (const size_t i : {kW, kR, kBias, kPeepholes}) {
    if (n.input(i) != kAbsent && constant_of(l, n, i) == nullptr) {
      return "its weights are not constant";
    }
  }
  const Tensor &w = *constant_of(l, n, kW), &r = *constant_of(l, n, kR);
  if (w.count() == 0 || r.count() == 0) return "it has no weights";
  const RecurrentForm form = recurrent_form(layer.kind);
  const int64_t hidden = r.shape()[2], rows = form.all_gates() * hidden;
  const auto fits = [&](size_t i, const Shape& want) {
    const Tensor* t = constant_of(l, n, i);
    return t == nullptr || t->shape() == want;
  };
  const bool all = fits(kW, {layer.sides, rows, w.shape()[2]}) &&
                   fits(kR, {layer.sides, rows, hidden}) && fits(kBias, {layer.sides, 2 * rows}) &&
                   fits(kPeepholes, {layer.sides, 3 * hidden});
  return all ? "" : "its weights do not fit each other";
}

struct Matrix {
  Tensor tensor;
  float* data;
};
Matrix zeros(Shape shape) {
  std::byte* bytes = nullptr;
  Tensor tensor = Tensor::make(DType::f32, std::move(shape), &bytes);
  auto* data = reinterpret_cast<float*>(bytes);
  std::fill_n(data, tensor.count(), 0.0F);
  return {std::move(tensor), data};
}

// What becomes of the axes of the states behind the layer.
struct AxesRead {
  ValueId value;
  std::vector<std::vector<int64_t>> groups;  // those that each axis of the value is made of

  // Through the next Transpose or view; false: somebody else reads it.
  bool go_on(const Graph& g) {
    for (const NodeId reader : g.value(value).readers) {
      const Node& n = g.node(reader);
      if (n.is("Transpose") ? turn(n) : g.uses(value) == 1 && n.is("planck.View") && join(g, n)) {
        value = n.outputs[0];
        return true;
      }
    }
    return false;
  }

 private:
  bool turn(const Node& n) {
    const std::vector<int64_t>& perm = n.as<ops::Transpose>().perm;
    if (perm.size() != groups.size()) return false;
    std::vector<std::vector<int64_t>> turned;
    for (const int64_t axis : perm) turned.push_back(groups[static_cast<size_t>(axis)]);
    groups = std::move(turned);
    return true;
  }
  // [a, b, c, d] to [a, b, c * d], or to what is left without the one direction.
  bool join(const Graph& g, const Node& n) {
    const std::vector<Dim>&from = g.value(value).type().dims,
          &to = g.value(n.outputs[0]).type().dims;
    if (from.size() != 4 || to.size() != 3) return false;
    const auto side = std::ranges::find(groups, std::vector<int64_t>{1}) - groups.begin();
    std::vector<Dim> without = from;
    without.erase(without.begin() + side);
    if (from[static_cast<size_t>(side)] == Dim(1) && to == without) {
      groups.erase(groups.begin() + side);
      return true;
    }
    if (to[0] != from[0] || to[1] != from[1]) return false;
    groups[2].insert(groups[2].end(), groups[3].begin(), groups[3].end());
    groups.pop_back();
    return true;
  }
};

class RecurrentLowering {
 public:
  RecurrentLowering(Lowering& l, const Node& n, const Layer& layer)
      : l_(l),
        n_(n),
        layer_(layer),
        params_{.kind = layer.kind,
                .hidden = constant_of(l, n, kR)->shape()[2],
                .sides = layer.sides,
                .reverse = layer.reverse},
        sizes_(params_.sizes()) {}

  void run() {
    const auto choice = select_recurrent(params_, l_.forced());
    const std::string kernel(choice.row->name);
    Step step{.op = "",
              .params = params_,
              .inputs = {},
              .outputs = {},
              .kernel = kernel,
              .nodes = {},
              .rejected = choice.rejected};
    const int32_t sums = project_input();
    const int32_t weights = l_.make_constant(packed(name_of(kR), state_weights(), kernel));
    const int32_t h = state(kH, step.nodes), c = state(kC, step.nodes);
    step.inputs = {sums, weights, more(), h, c, lengths()};
    const std::vector<Dim>& x = l_.graph.value(n_.inputs[kX]).type().dims;
    const Dim& batch = x[layer_.batch_first ? 0 : 1];
    step.outputs = {states_of_all_steps(), last(1), last(2),
                    l_.make_scratch({DType::f32,
                                     {Dim(sizes_.form.states), Dim(params_.sides), batch,
                                      Dim(sizes_.pitch())}})};
    l_.add_step(n_, std::move(step));
  }

 private:
  std::string name_of(size_t i) const { return l_.graph.value(n_.inputs[i]).name; }
  bool is_read(size_t i) const {
    if (i >= n_.outputs.size() || n_.outputs[i] == kAbsent) return false;
    const ValueId v = n_.outputs[i];
    return !l_.graph.value(v).readers.empty() || std::ranges::count(l_.graph.outputs, v) > 0;
  }
  int64_t onnx_rows() const { return sizes_.form.all_gates() * params_.hidden; }

  // --- weights ---
  // Rows of the model's weights [sides, rows, k] as columns of a matrix [k, n].
  Tensor transposed(const Tensor& weights, int64_t n, const auto& column) const {
    const int64_t k = weights.shape()[2], rows = onnx_rows();
    const Matrix out = zeros({k, n});
    for (int64_t row = 0; row < params_.sides * rows; ++row) {
      const float* from = weights.as<float>() + row * k;
      float* to = out.data + column(row / rows, row % rows);
      for (int64_t i = 0; i < k; ++i) to[i * n] = from[i];
    }
    return out.tensor;
  }
  Tensor input_weights() const {
    return transposed(*constant_of(l_, n_, kW), params_.sides * sizes_.side_columns(),
                      [&](int64_t side, int64_t row) { return sizes_.input_column(side, row); });
  }
  Tensor state_weights() const {
    return transposed(*constant_of(l_, n_, kR), params_.n(),
                      [&](int64_t side, int64_t row) { return sizes_.state_column(side, row); });
  }
  // Both halves of the bias, but for a gate whose second half the reset multiplies.
  bool adds_later(int64_t row) const {
    return params_.kind == RecurrentKind::gru_linear && row >= 2 * params_.hidden;
  }
  int32_t bias() const {
    const Tensor* bias = constant_of(l_, n_, kBias);
    if (bias == nullptr) return -1;
    const Matrix out = zeros({params_.sides * sizes_.side_columns()});
    for (int64_t side = 0; side < params_.sides; ++side) {
      for (int64_t row = 0; row < onnx_rows(); ++row) {
        const float* from = bias->as<float>() + side * 2 * onnx_rows() + row;
        out.data[sizes_.input_column(side, row)] =
            adds_later(row) ? from[0] : from[0] + from[onnx_rows()];
      }
    }
    return l_.make_constant({name_of(kBias), out.tensor, {}});
  }
  int32_t more() const {
    const bool linear = params_.kind == RecurrentKind::gru_linear;
    const size_t source = linear ? kBias : kPeepholes;
    const Tensor* from = constant_of(l_, n_, source);
    if (from == nullptr || sizes_.form.more == 0) return -1;
    const int64_t vectors = sizes_.form.more, width = from->shape()[1];
    const int64_t first = linear ? onnx_rows() + 2 * params_.hidden : 0;
    const Matrix out = zeros({params_.sides * sizes_.more_floats()});
    for (int64_t side = 0; side < params_.sides; ++side) {
      for (int64_t i = 0; i < vectors * params_.hidden; ++i) {
        const int64_t vector = i / params_.hidden, unit = i % params_.hidden;
        const int64_t block = unit / kRecurrentUnits;
        out.data[side * sizes_.more_floats() + (block * vectors + vector) * kRecurrentUnits +
                 unit % kRecurrentUnits] = from->as<float>()[side * width + first + i];
      }
    }
    return l_.make_constant({name_of(source), out.tensor, {}});
  }

  // --- what comes of the input: [steps, batch, columns] ---
  int32_t project_input() {
    const std::vector<int64_t> swapped = {1, 0, 2};
    int32_t x = l_.value(n_.inputs[kX]);
    // In the order in which the rows lie in memory.
    bool turned = false;
    if (!has_rows(l_.at(x)) && has_rows(permuted_view(l_.at(x), swapped))) {
      x = l_.permuted(x, swapped);
      turned = true;
    }
    x = l_.rows(x);
    const Tensor weights = input_weights();
    const int64_t k = weights.shape()[0], n = weights.shape()[1];
    const auto choice = select_linear(n, k, l_.forced());
    const std::string kernel(choice.row->name);
    const std::vector<Dim>& dims = l_.at(x).shape;
    const int32_t sums = l_.make_scratch({DType::f32, {dims[0], dims[1], Dim(n)}});
    l_.add_step(n_,
                {.op = "",
                 .params = LinearParams{n, k, {}},
                 .inputs = {x, l_.make_constant(packed(name_of(kW), weights, kernel)), bias(), -1},
                 .outputs = {sums},
                 .kernel = kernel,
                 .nodes = {},
                 .rejected = choice.rejected});
    return turned != layer_.batch_first ? l_.permuted(sums, swapped) : sums;
  }

  // --- states, as [sides, batch, hidden] ---
  // Whether the state begins with zeros, as exporters spell it; their nodes go to `origin`.
  bool begins_with_zeros(size_t i, Origin& origin) {
    const Node* from = l_.graph.producer(n_.inputs[i]);
    if (from != nullptr && !from->is("planck.Fill") && !from->is("planck.Broadcast")) return false;
    const PlanValue& v = l_.at(l_.unbroadcast(n_.inputs[i], origin));
    const PlanBuffer& buffer = l_.plan.buffers[static_cast<size_t>(v.buffer)];
    if (buffer.kind != BufferKind::constant) return false;
    const Tensor& t = l_.plan.constants[static_cast<size_t>(buffer.index)].tensor;
    const std::span numbers(t.as<float>(), static_cast<size_t>(t.count()));
    return std::ranges::all_of(numbers, [](float x) { return x == 0; });
  }
  int32_t state(size_t i, Origin& origin) {
    if (n_.input(i) == kAbsent || begins_with_zeros(i, origin)) return -1;
    int32_t v = l_.value(n_.inputs[i]);
    if (l_.at(v).strides.back() != Dim(1)) v = l_.dense(v);
    return layer_.batch_first ? l_.permuted(v, {1, 0, 2}) : v;
  }
  int32_t lengths() {
    return n_.input(kLengths) == kAbsent ? -1 : l_.dense(l_.value(n_.input(kLengths)));
  }
  int32_t last(size_t i) {
    if (!is_read(i)) return -1;
    const int32_t v = l_.make_output(n_, i);
    return layer_.batch_first ? l_.permuted(v, {1, 0, 2}) : v;
  }

  // The order in memory of the states of all steps: that in which the Transposes behind them read
  // the axes, through views that join the directions to the units or leave their axis out.
  std::vector<int64_t> order_of_states() const {
    std::vector<int64_t> plain = {0, 1, 2, 3};
    AxesRead read{n_.outputs[0], {{0}, {1}, {2}, {3}}};
    if (std::ranges::count(l_.graph.outputs, read.value) > 0) return plain;
    while (read.go_on(l_.graph)) {
    }
    std::vector<int64_t> order;
    for (const auto& axes : read.groups) order.insert(order.end(), axes.begin(), axes.end());
    if (order.size() == 3) order.insert(order.end() - 1, 1);
    return order.back() == 3 ? order : plain;
  }
  // Viewed as [steps, sides, batch, hidden].
  int32_t states_of_all_steps() {
    if (!is_read(0)) return -1;
    const std::vector<int64_t> written = order_of_states();
    const std::vector<int64_t> wanted =
        layer_.batch_first ? std::vector<int64_t>{1, 2, 0, 3} : std::vector<int64_t>{0, 1, 2, 3};
    std::vector<int64_t> view;
    for (const int64_t axis : wanted)
      view.push_back(std::ranges::find(written, axis) - written.begin());
    return l_.permuted(l_.make_permuted_output(n_, 0, written), view);
  }

  Lowering& l_;
  const Node& n_;
  const Layer layer_;
  const RecurrentParams params_;
  const RecurrentSizes sizes_;
};

}  // namespace

std::string lower_recurrent(Lowering& l, const Node& n) {
  const Layer layer = layer_of(n);
  if (std::string why = why_no_kernel(l, n, layer); !why.empty()) return why;
  RecurrentLowering(l, n, layer).run();
  return "";
}

}  // namespace planck
