// Transposed convolutions as convolutions. Results that lie a stride apart read the same taps, so
// that each phase of them is a convolution, and all phases are columns of one product; a copy
// brings them to their places. Before the padding cuts it, on each axis with the stride s:
//   y[s j + r] = sum over q of x[j - q] w[s q + r]
#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "backends/packing.h"
#include "base/checked.h"
#include "builder/lowering.h"
#include "builder/quantized.h"
#include "builder/select.h"
#include "kernels/layout/rows.h"
#include "ops/conv.h"
#include "passes/quant_facts.h"

namespace planck {
namespace {

struct PhaseAxis {
  WindowAxis spread;  // as the model has it
  int64_t taps = 1;   // of the windows of one phase
  int64_t begin = 0;  // padding in front of them
  int64_t skip = 0;   // results in front of the first one that is kept
  Dim places;         // of one phase
  Dim out;            // of all phases together, without what is cut
  bool is_exact() const { return skip == 0 && places * Dim(spread.stride) == out; }
};

// Nothing where the number of places is known in the run alone, or no window reads what is kept.
std::optional<PhaseAxis> phase_axis(const WindowAxis& axis, const ops::GrownAxis& grown,
                                    const Dim& in) {
  const int64_t stride = axis.stride;
  PhaseAxis out{.spread = axis, .places = {}, .out = grown.out};
  out.taps = (axis.reach() - 1) / stride + 1;
  out.begin = out.taps - 1 - grown.begin / stride;
  out.skip = grown.begin % stride;
  if (out.begin < 0) return std::nullopt;
  const Dim last = Dim(out.skip + stride - 1) + grown.out;  // over the stride, rounded down
  const auto beyond = (last - in * Dim(stride)).known();
  if (beyond) {
    out.places = in + floordiv(Dim(*beyond), Dim(stride));
  } else if (const auto known = last.known()) {
    out.places = Dim(*known / stride);
  } else {
    return std::nullopt;
  }
  return out;
}

// A transposed convolution as a product: columns [phases.., M] of windows [taps.., C].
struct PhaseProduct {
  std::vector<PhaseAxis> axes;
  Tensor matrix;
  int64_t phases = 1;
  ByteSource input;
  std::shared_ptr<const IntegerWeights> integers;  // none: floats

  // Each place of x gives one of each phase.
  bool is_pointwise(const std::vector<Dim>& x) const {
    for (size_t i = 0; i < axes.size(); ++i) {
      if (axes[i].taps != 1 || axes[i].begin != 0 || axes[i].places != x[i + 1]) return false;
    }
    return true;
  }
};

// Phases with fewer taps than others are filled up with zeros. Where strides or dilations leave
// little but zeros, nothing is won.
bool is_sparse(const std::vector<PhaseAxis>& axes) {
  double cells = 1, taps = 1;
  for (const PhaseAxis& a : axes) {
    cells *= static_cast<double>(a.taps) * static_cast<double>(a.spread.stride);
    taps *= static_cast<double>(a.spread.kernel);
  }
  return cells > 4 * taps + 16;
}

// Weights [C,M,taps..] as the matrix of the phases.
Tensor phases_beside(const Tensor& w, const std::vector<PhaseAxis>& axes) {
  const int64_t in = w.shape()[0], out = w.shape()[1], taps = w.count() / (in * out);
  int64_t windows = 1, phases = 1;
  for (const PhaseAxis& a : axes) {
    windows = checked_mul(windows, a.taps, "taps");
    phases = checked_mul(phases, a.spread.stride, "phases");
  }
  const int64_t columns = checked_mul(phases, out, "columns");
  std::vector<float> matrix(
      static_cast<size_t>(checked_mul(checked_mul(windows, in, "weights"), columns, "weights")), 0);
  for (int64_t tap = 0; tap < taps; ++tap) {
    int64_t rest = tap, window = 0, phase = 0, window_step = 1, phase_step = 1;
    for (size_t i = axes.size(); i-- > 0;) {
      const PhaseAxis& a = axes[i];
      const int64_t place = rest % a.spread.kernel * a.spread.dilation;
      rest /= a.spread.kernel;
      window += (a.taps - 1 - place / a.spread.stride) * window_step;
      phase += place % a.spread.stride * phase_step;
      window_step *= a.taps, phase_step *= a.spread.stride;
    }
    for (int64_t c = 0; c < in; ++c) {
      float* to = matrix.data() + (window * in + c) * columns + phase * out;
      const float* from = w.as<float>() + c * out * taps + tap;
      for (int64_t m = 0; m < out; ++m) to[m] = from[m * taps];
    }
  }
  return Tensor::of<float>(DType::f32, {windows * in, columns}, matrix);
}

// Columns [first, first + count).
Tensor columns_of(const Tensor& matrix, int64_t first, int64_t count) {
  std::vector<float> part;
  for (int64_t i = 0; i < matrix.shape()[0]; ++i) {
    const float* row = matrix.as<float>() + i * matrix.shape()[1] + first;
    part.insert(part.end(), row, row + count);
  }
  return Tensor::of<float>(DType::f32, {matrix.shape()[0], count}, part);
}

// The grid of [C,M,taps..] as that of the matrix: the scales of M come round for each phase.
QParams grid_of_phases(const QParams& grid, int64_t phases) {
  QParams out = grid;
  for (int64_t i = 1; i < phases && grid.scale.size() > 1; ++i) {
    out.scale.insert(out.scale.end(), grid.scale.begin(), grid.scale.end());
    out.zero_point.insert(out.zero_point.end(), grid.zero_point.begin(), grid.zero_point.end());
  }
  return out;
}

// Where the input is made of bytes and the product is of floats, the report says why.
void take_integers(Lowering& l, const Node& n, PhaseProduct& product) {
  product.input = byte_source(l.graph, n.inputs[0]);
  if (product.input.node == nullptr || !why_no_integer_product(l.graph, n).empty()) return;
  const QParams grid = grid_of_phases(*l.graph.value(n.inputs[1]).quant, product.phases);
  auto integers =
      std::make_shared<const IntegerWeights>(integer_weights(product.matrix, &grid, 1, 0));
  const std::string& why =
      product.input.refusal.empty() ? integers->refusal : product.input.refusal;
  if (why.empty()) {
    product.integers = std::move(integers);
  } else {
    l.refuse("quantized", n, why);
  }
}

class TransposedLowering {
 public:
  TransposedLowering(Lowering& l, const Node& n, const PhaseProduct& product, const Node& last)
      : l_(l),
        n_(n),
        p_(product),
        last_(last),
        weights_(*l.graph.value(n.inputs[1]).fact.constant),
        order_(channels_last(weights_.shape().size())) {}

  void run(const TileProgram& tail, const Origin& origin) {
    const ValueId source = p_.integers ? p_.input.node->inputs[0] : n_.inputs[0];
    const int32_t x = readable(l_.permuted(l_.value(source), order_));
    if (writes_groups(x)) return product_of_groups(x, p_.matrix.shape()[1], tail, origin);
    if (writes_lines(x)) return products_of_lines(x, tail, origin);
    std::vector<Dim> places{l_.at(x).shape[0]};
    for (const PhaseAxis& a : p_.axes) places.push_back(a.places);
    places.emplace_back(p_.matrix.shape()[1]);
    const DType dtype = l_.graph.value(last_.outputs[0]).type().dtype;
    const int32_t phases = l_.make_scratch({dtype, places});
    p_.integers ? integer_product(x, phases, tail, origin) : product(x, phases, tail, origin);
    put_in_place(phases, dtype, origin);
  }

 private:
  // Results side by side in a line of pixels are columns side by side in a row of a product.
  int64_t columns_in_line() const { return p_.axes.back().spread.stride * weights_.shape()[1]; }

  // Whether each phase of each place is written where it belongs.
  bool writes_places(int32_t x) {
    return !p_.integers && p_.is_pointwise(l_.at(x).shape) &&
           std::ranges::all_of(p_.axes, &PhaseAxis::is_exact) &&
           l_.graph.value(last_.outputs[0]).type().dtype == DType::f32;
  }

  // Whether one product writes them all: a few columns, which are those of one or two axes.
  bool writes_groups(int32_t x) {
    constexpr int64_t kMostColumns = 8;
    return p_.axes.size() <= 2 && p_.matrix.shape()[1] <= kMostColumns && writes_places(x);
  }

  // [N, places.., phase of the axis before the last, phase of the last and M]. The kernel is one
  // for so many columns.
  void product_of_groups(int32_t x, int64_t columns, const TileProgram& tail,
                         const Origin& origin) {
    const int32_t y = l_.make_permuted_output(last_, 0, order_);
    const int32_t bias_row = bias(p_.phases);
    const std::vector<Dim> steps = l_.at(y).strides;
    const int32_t groups = line_view(y, 0);
    PlanValue& view = l_.plan.values[static_cast<size_t>(groups)];
    view.strides.back() = Dim(1);  // a single channel may lie anywhere
    const int64_t count = p_.matrix.shape()[1] / columns_in_line();
    if (count > 1) {
      view.shape.insert(view.shape.end() - 1, Dim(count));
      view.strides.insert(view.strides.end() - 1, steps[1]);
    }
    add_product(x, groups, p_.matrix, bias_row, choice_for(columns), tail, origin);
  }

  Choice<MatmulRow> choice_for(int64_t columns) const {
    return select_matmul(columns, p_.matrix.shape()[0], true, l_.forced());
  }

  // Whether each line of all phases is written where it belongs, by a product for each phase of the
  // axes before. Few columns would fill vectors badly, and many products read x too often.
  bool writes_lines(int32_t x) {
    constexpr int64_t kFewColumns = 16, kMostProducts = 4;
    return writes_places(x) && weights_.shape()[1] > 1 && columns_in_line() >= kFewColumns &&
           p_.matrix.shape()[1] / columns_in_line() <= kMostProducts;
  }

  // One product, where the panels of its kernel end with the lines: x is read once.
  void products_of_lines(int32_t x, const TileProgram& tail, const Origin& origin) {
    const int64_t columns = columns_in_line(), products = p_.matrix.shape()[1] / columns;
    const Choice<MatmulRow> choice = choice_for(columns);
    if (p_.axes.size() == 2 && groups_panels(*choice.row, columns)) {
      return product_of_groups(x, columns, tail, origin);
    }
    const int32_t y = l_.make_permuted_output(last_, 0, order_);
    const int32_t bias_row = bias(columns / weights_.shape()[1]);
    for (int64_t product = 0; product < products; ++product) {
      const Tensor part = columns_of(p_.matrix, product * columns, columns);
      add_product(x, line_view(y, product), part, bias_row, choice, tail, origin);
    }
  }

  // What one phase of the axes before the last gives: [N, places.., phase of the last and M].
  int32_t line_view(int32_t y, int64_t phase) {
    PlanValue view = l_.at(y);
    view.name.clear();
    for (size_t i = p_.axes.size(); i > 0; --i) {
      const int64_t stride = p_.axes[i - 1].spread.stride;
      if (i < p_.axes.size()) {
        view.offset = view.offset + Dim(phase % stride) * view.strides[i];
        phase /= stride;
      }
      view.shape[i] = p_.axes[i - 1].places;
      view.strides[i] = view.strides[i] * Dim(stride);
    }
    view.shape.back() = Dim(columns_in_line());
    l_.plan.values.push_back(std::move(view));
    return static_cast<int32_t>(l_.plan.values.size() - 1);
  }

  int32_t readable(int32_t x) {
    if (p_.is_pointwise(l_.at(x).shape)) return l_.rows(x);
    const PlanValue& v = l_.at(x);
    return v.strides.back() == Dim(1) || v.shape.back() == Dim(1) ? x : l_.dense(x);
  }

  std::vector<WindowParams> windows(int32_t x) const {
    std::vector<WindowParams> out;
    if (p_.is_pointwise(l_.at(x).shape)) return out;
    for (const PhaseAxis& a : p_.axes) out.push_back({a.taps, 1, 1, a.begin});
    return out;
  }

  void integer_product(int32_t x, int32_t y, const TileProgram& tail, const Origin& origin) {
    const IntegerProduct product{
        .node = &n_, .input = p_.input, .channels = weights_.shape()[0], .windows = windows(x)};
    add_integer_product(l_, product, *p_.integers, {.x = x, .y = y}, tail, origin);
  }

  // The bias of each column of so many phases.
  int32_t bias(int64_t phases) {
    if (n_.input(2) == kAbsent) return -1;
    const Value& row = l_.graph.value(n_.inputs[2]);
    const Tensor& b = *row.fact.constant;
    std::vector<float> all;
    for (int64_t i = 0; i < phases; ++i) {
      all.insert(all.end(), b.as<float>(), b.as<float>() + b.count());
    }
    const auto count = static_cast<int64_t>(all.size());
    return l_.make_constant({row.name, Tensor::of<float>(DType::f32, {count}, all), {}});
  }

  void product(int32_t x, int32_t y, const TileProgram& tail, const Origin& origin) {
    add_product(x, y, p_.matrix, bias(p_.phases), choice_for(p_.matrix.shape()[1]), tail, origin);
  }

  void add_product(int32_t x, int32_t y, const Tensor& matrix, int32_t bias_row,
                   const Choice<MatmulRow>& choice, const TileProgram& tail, const Origin& origin) {
    const int64_t k = matrix.shape()[0], columns = matrix.shape()[1];
    const std::string kernel(choice.row->name);
    const std::string& name = l_.graph.value(n_.inputs[1]).name;
    Step step{.op = "",
              .params = LinearParams{columns, k, tail},
              .inputs = {x, l_.make_constant(packed(name, matrix, kernel)), bias_row, -1},
              .outputs = {y},
              .kernel = kernel,
              .nodes = origin,
              .rejected = choice.rejected};
    if (auto over = windows(x); !over.empty()) {
      step.params = ConvParams{columns, weights_.shape()[0], std::move(over), tail, {}};
    }
    l_.add_step(n_, std::move(step));
  }

  // [N, places.., phases.., M] -> [N, place and phase.., M], of which the padding cuts the ends.
  void put_in_place(int32_t phases, DType dtype, const Origin& origin) {
    const bool exact = std::ranges::all_of(p_.axes, &PhaseAxis::is_exact);
    const int32_t y = exact ? l_.make_permuted_output(last_, 0, order_) : whole(phases, dtype);
    std::vector<Dim> shape, from, to;
    Dim phase_step = Dim(p_.matrix.shape()[1]);
    for (size_t i = 0; i <= p_.axes.size() + 1; ++i) {
      const bool spatial = i > 0 && i <= p_.axes.size();
      const int64_t stride = spatial ? p_.axes[i - 1].spread.stride : 1;
      const bool channel = i > p_.axes.size();
      shape.push_back(channel ? Dim(weights_.shape()[1]) : l_.at(phases).shape[i]);
      from.push_back(l_.at(phases).strides[i]);
      to.push_back(l_.at(y).strides[i] * Dim(stride));
      if (stride == 1) continue;
      phase_step = *exact_div(phase_step, Dim(stride));
      shape.emplace_back(stride);
      from.push_back(phase_step);
      to.push_back(l_.at(y).strides[i]);
    }
    const auto choice = choose_by_isa(copy_rows(), l_.forced());
    l_.add_step(n_, {.op = "",
                     .params = CopyParams{},
                     .inputs = {l_.restrided(phases, shape, std::move(from))},
                     .outputs = {l_.restrided(y, shape, std::move(to))},
                     .kernel = std::string(choice.row->name),
                     .nodes = origin,
                     .rejected = choice.rejected});
    if (!exact) cut(y);
  }

  // All places of all phases.
  int32_t whole(int32_t phases, DType dtype) {
    std::vector<Dim> dims{l_.at(phases).shape[0]};
    for (const PhaseAxis& a : p_.axes) dims.push_back(a.places * Dim(a.spread.stride));
    dims.emplace_back(weights_.shape()[1]);
    return l_.make_scratch({dtype, std::move(dims)});
  }

  // The output is a window into it.
  void cut(int32_t whole) {
    std::vector<int64_t> inverse(order_.size());
    for (size_t i = 0; i < order_.size(); ++i) {
      inverse[static_cast<size_t>(order_[i])] = static_cast<int64_t>(i);
    }
    PlanValue window = permuted_view(l_.at(whole), inverse);
    for (size_t i = 0; i < p_.axes.size(); ++i) {
      window.offset = window.offset + Dim(p_.axes[i].skip) * window.strides[i + 2];
    }
    l_.make_view(last_, 0, std::move(window), whole);
  }

  Lowering& l_;
  const Node& n_;
  const PhaseProduct& p_;
  const Node& last_;
  const Tensor& weights_;
  const std::vector<int64_t> order_;  // channels last
};

}  // namespace

std::string lower_conv_transpose(Lowering& l, const Node& n) {
  if (!all_f32(l, n)) return "only fp32 convolutions have kernels";
  const Value& w = l.graph.value(n.inputs[1]);
  if (!w.is_constant()) return "its weights are not constant";
  if (w.fact.constant->count() == 0) return "it has no weights";
  if (n.input(2) != kAbsent && !l.graph.value(n.input(2)).is_constant()) {
    return "its bias is not constant";
  }
  const auto& conv = n.as<ops::ConvTranspose>();
  const Shape& shape = w.fact.constant->shape();
  std::string why = ops::why_no_phases(conv, shape);
  if (!why.empty()) return why;
  const std::vector<WindowAxis> axes = window_axes(n.op->name, conv, std::span(shape).subspan(2));
  const auto in = std::span(l.graph.value(n.inputs[0]).type().dims).subspan(2);
  const std::vector<ops::GrownAxis> grown = ops::grown_axes(conv, axes, in);
  PhaseProduct product;
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = phase_axis(axes[i], grown[i], in[i]);
    if (!axis) return "the run alone knows how much of its result is cut";
    product.axes.push_back(*axis);
  }
  if (is_sparse(product.axes)) return "its windows have more gaps than taps";
  for (const PhaseAxis& a : product.axes) product.phases *= a.spread.stride;
  product.matrix = phases_beside(*w.fact.constant, product.axes);
  take_integers(l, n, product);
  const auto emit = [&l, &n, product](const Node& last, const TileProgram& tail,
                                      const Origin& origin) {
    TransposedLowering(l, n, product, last).run(tail, origin);
  };
  l.defer(n, emit, true);
  return "";
}

}  // namespace planck
